"""Lineage: the record of what made a version."""
