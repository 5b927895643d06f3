"""Data: what a data set is on disk, manifest, boxes, source groups, splits."""
