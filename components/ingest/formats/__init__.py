"""Annotation formats: one reader a module, all of them listed in `registry`."""
