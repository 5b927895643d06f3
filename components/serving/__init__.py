"""Serving: the student behind a predictor, pictures of its answers, the registry model."""
