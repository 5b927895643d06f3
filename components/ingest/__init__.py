"""Ingest: annotation formats, importing and merging data sets, the inbox."""
