"""`iml audit`: verify how a version was made, from the places of record or from a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from components.lineage.verdict import Audit

_STYLES = {"verified": "green", "broken": "bold red", "unverifiable": "yellow"}
_SHOWN = 20  # findings on the terminal; JSON and page have all


def audit(
    model: Annotated[
        str,
        typer.Argument(metavar="M", help="name@champion, name/version or an exported bundle."),
    ] = "boxpromptiml@champion",
    deep: Annotated[
        bool, typer.Option("--deep", help="Fetch every object from the DVC remote and hash it.")
    ] = False,
    page: Annotated[
        Path | None, typer.Option(help="Also write a self-contained HTML page here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Follow a version back to the photos that made it and recompute every hash.

    Exit code 0: everything verified; 1: something is broken; 2: evidence is missing, or bad input.
    """
    from components.core.files import check_place, write_text
    from components.lineage.bundle import evidence_of
    from flows.cli._common import progress_bars

    if page:
        check_place(page)
    with evidence_of(model) as evidence:
        from components.lineage.audit import audit as walk

        with progress_bars() as bar:
            answer = walk(evidence, deep=deep, progress=bar("objects"))
    if page:
        from components.lineage.audit import render

        write_text(page, render(answer))
    if as_json:
        typer.echo(json.dumps(answer.row(), indent=2, ensure_ascii=False))
    else:
        _show(answer, page)
    raise typer.Exit(answer.exit_code)


def _show(answer: Audit, page: Path | None) -> None:
    from rich.console import Console
    from rich.text import Text

    from components.lineage.verdict import LINKS, Verdict, worst
    from flows.cli._tables import add_row, new_table

    console = Console()
    table = new_table(f"Audit of {answer.model}/{answer.version}", "link", "verdict", "what")
    for name, findings in answer.by_link().items():
        verdict = worst(findings)
        said = "; ".join(f.what for f in findings if f.verdict == verdict)
        style = _STYLES[verdict]
        add_row(table, LINKS[name][0], verdict, said[:300], styles={1: style})
    console.print(table)
    wrong = [f for f in answer.findings if f.verdict != Verdict.VERIFIED]
    for finding in wrong[:_SHOWN]:
        console.print(Text(f"{finding.verdict}: {finding.line()}", style=_STYLES[finding.verdict]))
    if len(wrong) > _SHOWN:
        console.print(f"and {len(wrong) - _SHOWN} more; see --json or --page")
    console.print(Text(answer.sentence()))
    if page:
        console.print(Text(f"Page: {page}"))
