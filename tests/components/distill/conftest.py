"""A small prepared and labelled data set."""

from distill_support import made, settings, steady_torch  # noqa: F401
