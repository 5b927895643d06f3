"""Stage `prepare`: indexed data sets into one manifest, boxes, quarantine list and counts."""
