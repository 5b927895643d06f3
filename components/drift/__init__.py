"""Drift: whether the photos scored now look like those that were scored before."""
