"""Data: photos, boxes, masks, manifest, splits, synthesis."""
