"""Recipes that made the shipped weights; no stage, cache or version depends on them."""
