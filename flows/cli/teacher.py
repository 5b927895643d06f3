"""`iml teacher`: list the teachers, fetch or train their weights."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from flows.cli.teacher_train import train

app = typer.Typer(help="Teachers that turn boxes into pseudo-masks.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]

app.command()(train)


def _rows() -> list[dict[str, Any]]:
    """One row per teacher."""
    from components.pseudo_label.registry import specs

    rows: list[dict[str, Any]] = []
    for spec in specs().values():
        known = spec.weights
        here = known.on_disk() if known else None
        rows.append(
            {
                "name": spec.name,
                "kind": spec.kind,
                "weights_bytes": known.size if known else 0,
                "sha256": known.sha256 if known else None,
                "licence": spec.licence,
                "on_disk": here,
                "path": str(known.path) if known and here else None,
            }
        )
    return rows


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the values of `pseudo_label.teacher` and whether their weights are on disk."""
    rows = _rows()
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console

    from flows.cli._tables import add_row, new_table

    table = new_table("Teachers", "name", "kind", "weights#", "licence", "on disk")
    for row in rows:
        size = f"{row['weights_bytes'] / 1e6:,.0f} MB" if row["weights_bytes"] else "none"
        here = {True: "yes", False: "no", None: "not needed"}[row["on_disk"]]
        add_row(table, row["name"], row["kind"], size, row["licence"], here)
    Console().print(table)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A teacher whose weights are published elsewhere.")],
    as_json: AsJson = False,
) -> None:
    """Download a teacher's weights, continuing an interrupted download.

    The SHA-256 is checked before the file is put in place. IML_SAM_MIRROR names another server
    for Segment Anything's.
    """
    from components.pseudo_label.registry import downloadable

    weights = downloadable(name)
    path = weights.fetch_with_bar()
    if as_json:
        typer.echo(json.dumps({"name": name, "path": str(path), "sha256": weights.sha256}))
    else:
        typer.echo(f"{path}: SHA-256 {weights.sha256} verified")
