"""Tables on the terminal, as `run` and `model` show them; what people wrote is never markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def new_table(title: str, *columns: str) -> Table:
    """An empty table."""
    from rich.table import Table

    made = Table(title=title, title_justify="left")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def add_row(to: Table, *cells: str, styles: dict[int, str] | None = None) -> None:
    """A row of plain text; `styles` by column number."""
    from rich.text import Text

    to.add_row(*(Text(cell, style=(styles or {}).get(i, "")) for i, cell in enumerate(cells)))


def number(value: object) -> str:
    """Four digits of a float, nothing for None."""
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def gates_table(title: str, gates: Iterable[Mapping[str, Any]]) -> Table:
    """Every gate's verdict, value, threshold and reason."""
    made = new_table(title, "gate", "verdict", "value", "threshold", "why")
    for gate in gates:
        verdict, style = ("pass", "green") if gate["passed"] else ("fail", "red")
        if gate["warning"]:
            verdict, style = "warn", "yellow"
        value, threshold = number(gate["value"]), number(gate["threshold"])
        add_row(made, gate["name"], verdict, value, threshold, gate["reason"], styles={1: style})
    return made
