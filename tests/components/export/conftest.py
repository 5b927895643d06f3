"""Students of any configuration."""

from student_support import make, one_thread, settings  # noqa: F401
