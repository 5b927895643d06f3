"""What the long campaigns counted, as a Markdown table: `pytest --campaigns --report FILE`.

A campaign tells its figures with pytest's own `record_property`.
"""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import pytest

HEAD = """# What `make verify` found

{when}, commit {commit}, {cores} cores, Python {python}. {said}

| campaign | result | seconds | figures |
| --- | --- | --- | --- |
"""


def row(report: pytest.TestReport) -> str:
    """One campaign's row."""
    name = report.nodeid.removeprefix("tests/").replace("|", "\\|")
    told = ", ".join(f"{value} {key}" for key, value in report.user_properties)
    return f"| `{name}` | {report.outcome} | {report.duration:.0f} | {told} |\n"


def write(path: Path, reports: list[pytest.TestReport], commit: str) -> None:
    """Write a row for each test that told a figure; the line above says how many others ran."""
    told = sorted((r for r in reports if r.user_properties), key=lambda r: r.nodeid)
    failed = sum(r.failed for r in reports)
    head = HEAD.format(
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=commit,
        cores=os.cpu_count(),
        python=platform.python_version(),
        said=f"{len(reports)} tests ran, {failed} failed; those that count something:",
    )
    path.write_text(head + "".join(map(row, told)), encoding="utf-8")
