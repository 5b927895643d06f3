"""`iml model`: versions, their gates and lineage, the ledger's history, rollback."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli import _decisions
from flows.cli._registry import Json, opened, print_json
from flows.cli._tables import add_row, gates_table, new_table, short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from components.registry.versions import VersionState

app = typer.Typer(
    help="Versions of a model: list, show, decide, history.",
    no_args_is_help=True,
)

_DEFAULT = "boxpromptiml"
_STYLES = {
    "champion": "bold green",
    "former champion": "cyan",
    "rejected": "red",
    "awaiting approval": "yellow",
}
Name = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="Model name; default: promotion.model.")
]


def _name() -> str:
    """The model that this workspace trains, else the project's."""
    from components.core import params

    return params.load().promotion.model if Path("params.yaml").is_file() else _DEFAULT


@app.command("list")
def list_versions(name: Name = None, as_json: Json = False) -> None:
    """List every registered version, the champion marked."""
    from rich.console import Console

    from components.registry.versions import states

    model = name or _name()
    registry, notes = opened(model)
    found = states(registry.rows())
    if as_json:
        print_json({"model": model, "versions": [entry.row() for entry in found], "notes": notes})
        return
    table = new_table(model, "version", "status", "F1#", "gates", "registered (UTC)", "commit")
    for entry in found:
        add_row(
            table,
            str(entry.version),
            entry.status,
            entry.facts["tags"].get("f1", ""),
            _gates_passed(entry.gates),
            entry.registered[:16].replace("T", " "),
            short(entry.facts["tags"].get("git_commit")),
            styles={1: _STYLES.get(entry.status, "")},
        )
    Console().print(table if found else f"{model} has no versions yet; run `iml run`")


def _gates_passed(gates: Sequence[dict[str, Any]]) -> str:
    return f"{sum(gate['passed'] for gate in gates)} of {len(gates)}" if gates else ""


@app.command()
def show(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[M]", help="name@champion or name/version; default: champion."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a version: gates, metrics, lineage; its files are fetched and checked."""
    from components.registry.downloads import verify_download
    from components.registry.versions import parse_reference, resolve, states

    name, wanted = parse_reference(model) if model else (_name(), None)
    registry, notes = opened(name)
    row = resolve(registry, wanted)
    entry = next(e for e in states(registry.rows()) if e.version == row.version)
    record = verify_download(registry, row.version, row.facts())
    metrics = registry.store.metrics(entry.facts["run_id"])
    if as_json:
        print_json({**entry.row(), "metrics": metrics, "lineage": record, "notes": notes})
        return
    _show(entry, metrics, record)


def _show(entry: VersionState, metrics: dict[str, float], record: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console()
    style = _STYLES.get(entry.status, "")
    status = f"[{style}]{entry.status}[/]" if style else entry.status
    console.print(
        f"[bold]{entry.model}/{entry.version}[/] {status}, files, record and signature verified"
    )
    gates = gates_table("Gates", entry.gates)
    console.print(gates if entry.gates else "not gated yet")
    figures = new_table("Metrics", "metric", "value#", "interval#", "photos#")
    for name in sorted(metrics):
        if not name.endswith((".low", ".high", ".n")):
            low, high = metrics.get(f"{name}.low"), metrics.get(f"{name}.high")
            spread = "" if low is None or high is None else f"{low:.4f} to {high:.4f}"
            count = metrics.get(f"{name}.n")
            add_row(
                figures,
                name,
                f"{metrics[name]:.4g}",
                spread,
                "" if count is None else f"{count:.0f}",
            )
    console.print(figures)
    console.print(_lineage(entry, record))


def _lineage(entry: VersionState, record: dict[str, Any]) -> Table:
    table = new_table("Lineage", "what", "value")
    git = record["git"]
    unclean = "" if git["clean"] else f" (with {len(git['dirty'])} uncommitted changes)"
    add_row(table, "git commit", f"{git['commit']}{unclean}")
    add_row(table, "dvc.lock", short(record["dvc_lock"]["sha256"]))
    for name, dataset in record["datasets"].items():
        boxes = short(dataset["boxes_sha256"])
        add_row(table, f"data set {name}", f"{dataset['licence']}; boxes {boxes}")
    teacher = record["teacher"]
    add_row(table, "teacher", f"{teacher['name']} {short(teacher['sha256'])}")
    for name, digest in entry.facts["files"].items():
        add_row(table, name, short(digest))
    add_row(table, "lineage record", short(entry.facts["record_sha256"]))
    add_row(table, "signature", short(entry.facts["signature_sha256"]))
    add_row(table, "signed with key", short(entry.facts["signing_key"]))
    add_row(table, "MLflow run", entry.facts["run_id"])
    return table


@app.command()
def card(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[M]", help="name@champion or name/version; default: champion."),
    ] = None,
) -> None:
    """Print a version's model card (Markdown) and the path of its verified copy."""
    from components.registry import layout
    from components.registry.downloads import verified_copy
    from components.registry.versions import parse_reference, resolve

    name, wanted = parse_reference(model) if model else (_name(), None)
    registry, _ = opened(name)
    folder = verified_copy(registry, resolve(registry, wanted))
    typer.echo((folder / layout.CARD).read_text(encoding="utf-8"))
    typer.echo(f"Verified copy of all its files: {folder}", err=True)


@app.command()
def history(name: Name = None, as_json: Json = False) -> None:
    """Show every row of the promotion ledger: who, when, what and why."""
    from rich.console import Console

    from components.registry.chain import LedgerHead, problems
    from components.registry.versions import Registry

    model = name or _name()
    registry = Registry.open(model)
    # The ledger_head first: rows that come in between are then only more than it has seen.
    ledger_head = LedgerHead.parse(registry.store.ledger_head(model))
    rows = registry.ledger.rows(model)
    damage = problems(rows, ledger_head)
    if as_json:
        print_json({"model": model, "rows": [row.plain() for row in rows], "problems": damage})
    else:
        table = new_table(model, "row", "time (UTC)", "event", "version", "by", "why", "hash")
        for row in rows:
            when = str(row.time)[:16].replace("T", " ")
            cells = (row.sequence, when, row.event, row.version, row.actor, row.reason)
            add_row(table, *map(str, cells), str(row.hash)[:8])
        Console().print(table if rows else f"{model} has no history yet; run `iml run`")
    # The rows are shown whatever they are; a damaged chain is the command's failure all the same.
    registry.rows()


app.command()(_decisions.register)
app.command()(_decisions.promote)
app.command()(_decisions.approve)
app.command()(_decisions.rollback)
