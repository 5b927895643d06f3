"""A small data set and a model that sees red."""

from evaluate_support import make_album, make_dataset, params, red_channel  # noqa: F401
