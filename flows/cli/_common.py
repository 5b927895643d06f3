"""What commands share: options, JSON, tables of text that is never markup, and a progress bar."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def print_json(value: object) -> None:
    """One document on stdout."""
    typer.echo(json.dumps(value, indent=2))


def show(what: Table | str, style: str = "") -> None:
    """Print a table, or a line of plain text."""
    from rich.console import Console
    from rich.text import Text

    Console().print(Text(what, style=style) if isinstance(what, str) else what)


def new_table(title: str, *columns: str, rows: Iterable[Iterable[object]] = ()) -> Table:
    """A table of text; a name that ends in `#`, which is not shown, makes a column of numbers."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(
        title=Text(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),  # narrow: terminals have 80 columns
    )
    for column in columns:
        made.add_column(
            column.removesuffix("#"),
            overflow="fold",
            justify="right" if column.endswith("#") else "left",
        )
    for row in rows:
        add_row(made, *row)
    return made


def add_row(to: Table, *cells: object, styles: Mapping[int, str] | None = None) -> None:
    """A row of plain text; `styles` by column number."""
    from rich.text import Text

    to.add_row(*(Text(str(cell), style=(styles or {}).get(i, "")) for i, cell in enumerate(cells)))


def short(digest: object) -> str:
    """The beginning of a hash, enough to tell it from others; JSON has all of it."""
    return str(digest or "")[:12]


def gates_table(
    title: str, gates: Iterable[Mapping[str, Any]], overruled: Collection[str] = ()
) -> Table:
    """Every gate with its verdict and the reason, which names value and threshold."""
    made = new_table(title, "gate", "verdict", "why")
    made.columns[0].no_wrap = True
    for gate in gates:
        verdict, style = ("pass", "green") if gate["passed"] else ("fail", "red")
        if gate["warning"] or gate["name"] in overruled:
            verdict, style = "warn" if gate["warning"] else "overruled", "yellow"
        add_row(made, gate["name"], verdict, gate["reason"], styles={1: style})
    return made


@contextmanager
def progress_bars() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Bars on stderr: `bar("predict")` gives what is called as progress(done, total)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def bar(label: str) -> Callable[[int, int], None]:
            task = bars.add_task(label, total=None, visible=False)
            return lambda done, total: bars.update(task, completed=done, total=total, visible=True)

        yield bar
