"""Stage `prepare`: a data set's folder into manifest, boxes, quarantine list and counts."""
