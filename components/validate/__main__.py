"""Stage `validate`: judge the manifest, write the report, stop on a critical fault."""

from __future__ import annotations

from components.core import params
from components.core.errors import exit_on_error
from components.core.files import write_json, write_text
from components.core.paths import DATA, PREPARED, VALIDATION, VALIDATION_PAGE
from components.data import manifest
from components.validate.report import render
from components.validate.suite import validate
from components.validate.tables import BOXES_READ, IMAGES_READ, related


def main() -> None:
    """Read params.yaml and runs/prepare, write runs/validate; raises InputError when it failed."""
    settings = params.load()
    tables = manifest.read(PREPARED, IMAGES_READ, BOXES_READ)
    rows = related(tables)
    names = settings.prepare.datasets
    report = validate(tables, DATA, settings.validate_, rows, names)
    # Both files stay when a check failed: they are where people look up the rows.
    write_json(VALIDATION, report.values())
    write_text(VALIDATION_PAGE, render(report, tables, rows))
    report.require(str(VALIDATION_PAGE))


if __name__ == "__main__":
    with exit_on_error():
        main()
