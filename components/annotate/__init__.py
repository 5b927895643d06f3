"""Annotate: the person who draws the boxes, and what to draw next."""
