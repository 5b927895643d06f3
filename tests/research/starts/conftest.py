"""Small settings of a student."""

from distill_support import settings, steady_torch  # noqa: F401
