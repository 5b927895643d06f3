"""Stage `validate`: expectations on manifest and boxes, their report, and the page people read."""
