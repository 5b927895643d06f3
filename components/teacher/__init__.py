"""Teachers: from coarse boxes to pseudo-masks, their quality and their cache."""
