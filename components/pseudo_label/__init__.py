"""Stage `pseudo_label`: teachers turn coarse boxes into pseudo-masks of known quality."""
