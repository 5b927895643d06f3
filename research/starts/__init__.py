"""First weights for students: backbones pretrained on generated composites."""
