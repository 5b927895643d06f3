"""`iml teacher`: list the teachers, fetch or train their weights."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from flows.cli.teacher_train import train

app = typer.Typer(help="Teachers that turn boxes into pseudo-masks.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]

app.command()(train)

_WEIGHT_FREE = {"box": "filled box", "grabcut": "GrabCut (OpenCV)"}


def _rows() -> list[dict[str, Any]]:
    """One row per teacher of the registry."""
    from components.pseudo_label.checkpoints import CHECKPOINTS, on_disk
    from components.pseudo_label.teachers.registry import TEACHERS
    from components.pseudo_label.teachers.sam_lite import SHA256, WEIGHTS

    rows: list[dict[str, Any]] = []
    for name in TEACHERS:
        if name == "sam_lite":
            rows.append(
                {
                    "name": name,
                    "kind": "small SAM of this project",
                    "weights_bytes": WEIGHTS.stat().st_size,
                    "sha256": SHA256,
                    "licence": "see its card",
                    "on_disk": True,
                    "path": str(WEIGHTS),
                }
            )
            continue
        known = CHECKPOINTS.get(name)
        path = on_disk(name) if known else None
        rows.append(
            {
                "name": name,
                "kind": "Segment Anything" if known else _WEIGHT_FREE[name],
                "weights_bytes": known.size if known else 0,
                "sha256": known.sha256 if known else None,
                "licence": "Apache-2.0",
                "on_disk": bool(path) if known else None,
                "path": str(path) if path else None,
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
    name: Annotated[str, typer.Argument(help="vit_b, vit_l or vit_h.")],
    as_json: AsJson = False,
) -> None:
    """Download a Segment Anything checkpoint, continuing an interrupted download.

    The SHA-256 is checked before the file is put in place. IML_SAM_MIRROR names another server.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from components.pseudo_label import checkpoints

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)
        path = checkpoints.fetch(
            name, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    known = checkpoints.CHECKPOINTS[name]
    if as_json:
        typer.echo(json.dumps({"name": name, "path": str(path), "sha256": known.sha256}))
    else:
        typer.echo(f"{path}: SHA-256 {known.sha256} verified")
