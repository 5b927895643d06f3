"""Tables on the terminal, as `run` and `model` show them; what people wrote is never markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import JustifyMethod
    from rich.table import Table


def new_table(title: str, *columns: str) -> Table:
    """An empty table; a name that ends in `#`, which is not shown, makes a column of numbers."""
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
        justify: JustifyMethod = "right" if column.endswith("#") else "left"
        made.add_column(column.removesuffix("#"), overflow="fold", justify=justify)
    return made


def add_row(to: Table, *cells: str, styles: dict[int, str] | None = None) -> None:
    """A row of plain text; `styles` by column number."""
    from rich.text import Text

    to.add_row(*(Text(cell, style=(styles or {}).get(i, "")) for i, cell in enumerate(cells)))


def short(digest: object) -> str:
    """The beginning of a hash, enough to tell it from others; JSON has all of it."""
    return str(digest or "")[:12]


def gates_table(title: str, gates: Iterable[Mapping[str, Any]]) -> Table:
    """Every gate's verdict and reason, which names what was found and what was asked for."""
    made = new_table(title, "gate", "verdict", "why")
    made.columns[0].no_wrap = True
    for gate in gates:
        verdict, style = ("pass", "green") if gate["passed"] else ("fail", "red")
        if gate["warning"]:
            verdict, style = "warn", "yellow"
        add_row(made, gate["name"], verdict, gate["reason"], styles={1: style})
    return made
