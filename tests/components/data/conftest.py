"""Sources in several formats."""

from ingest_support import casia, coco, folder, settings  # noqa: F401
