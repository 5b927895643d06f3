"""How `sam_lite` learns: box-to-mask pairs made from photos, losses, training and calibration."""
