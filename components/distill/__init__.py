"""Stage `distill`: decoded cache, augmentation, loss, trainer and its checkpoints."""
