"""Stage `validate`: judge the manifest, write the report, stop on a critical fault."""

from __future__ import annotations

from pathlib import Path

from components import params
from components.data import manifest
from components.errors import exit_on_error
from components.files import write_json, write_text
from components.validation.page import render
from components.validation.suite import validate

PREPARED = Path("runs/prepare")
RESULT = Path("runs/validate/result.json")
PAGE = Path("runs/validate/report.html")


def main() -> None:
    """Read params.yaml and runs/prepare, write runs/validate; raises InputError when it failed."""
    settings = params.load()
    tables = manifest.read(PREPARED)
    report = validate(tables, Path("data") / settings.prepare.dataset, settings.validate_)
    # Both files stay when a check failed: they are where people look up the rows.
    write_json(RESULT, report.values())
    write_text(PAGE, render(report, tables))
    report.require(str(PAGE))


if __name__ == "__main__":
    with exit_on_error():
        main()
