"""Annotation formats to write: one writer a module, all of them listed in `registry`."""
