"""Jinja templates of all HTML pages; no stage depends on them, so a new style reruns nothing."""
