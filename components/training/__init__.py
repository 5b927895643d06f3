"""Distillation: the decoded cache, augmentation, loss, trainer and its checkpoints."""
