"""Settings of a small training."""

from distill_support import settings, steady_torch  # noqa: F401
