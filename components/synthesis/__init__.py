"""Synthesis: manipulated photos composed from authentic ones, with exact masks."""
