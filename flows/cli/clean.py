"""`iml clean`: what takes space in this workspace, and what of it can go."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli._common import AsJson, new_table, print_json, show


def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Remove what can go; else only say.")] = False,
    remote: Annotated[
        bool,
        typer.Option(
            "--remote",
            help="Also objects of the DVC remote that no version, branch or tag here names.",
        ),
    ] = False,
    days: Annotated[float, typer.Option(min=0, help="Keep what is younger than this.")] = 30,
    as_json: AsJson = False,
) -> None:
    """Say what caches, copies and objects are for, how big they are, what can go.

    Nothing goes that a registered version or this workspace needs.
    """
    from components import workspace
    from components.lineage.space import holdings

    with workspace.exclusive():
        found = holdings(days, with_remote=remote)
        if yes:
            for holding in found:
                holding.remove()
    if as_json:
        print_json({"removed": yes, "holdings": [holding.row() for holding in found]})
        return
    rows = [(h.name, _size(h.bytes), _size(sum(h.going.values())), h.purpose) for h in found]
    show(new_table("Space", "what", "size#", "can go#", "for", rows=rows))
    total = sum(sum(holding.going.values()) for holding in found)
    what = "removed" if yes else "can go; nothing was removed, --yes does"
    typer.echo(f"{_size(total)} {what}")


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
