"""`iml model`: versions, their gates and lineage, the ledger's history, and decisions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from components.core.errors import InputError
from flows.catalogue import Catalogue
from flows.cli._common import AsJson, add_row, gates_table, new_table, print_json, short, show

if TYPE_CHECKING:
    from rich.table import Table

    from components.core.params import Params
    from components.registry.chain import Row
    from components.registry.versions import Registry, VersionState

app = typer.Typer(help="Versions of a model: list, show, decide, history.", no_args_is_help=True)

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
Reference = Annotated[
    str | None,
    typer.Argument(metavar="[M]", help="name@champion or name/version; default: champion."),
]
Which = Annotated[str, typer.Argument(metavar="NAME/VERSION", help="A registered version.")]
Why = Annotated[str, typer.Option(help="Why, on one line; goes into the ledger.")]
Who = Annotated[str | None, typer.Option(help="Who decides; default: this account.")]


def _name() -> str:
    """The model that this workspace trains, else the project's."""
    from components.core import params

    return params.load().promotion.model if Path("params.yaml").is_file() else _DEFAULT


def _opened(model: str, *, writing: bool = False) -> tuple[Registry, list[str]]:
    """The registry with alias and ledger reconciled; what was found is printed on stderr."""
    from components.registry.alias import opened

    return opened(model, _warn, writing=writing)


def _resolved(model: str | None) -> tuple[Registry, list[str], Row]:
    """The registry, what was found in it, and a version's first row; default: champion."""
    from components.registry.versions import parse_reference, resolve

    name, wanted = parse_reference(model) if model else (_name(), None)
    registry, notes = _opened(name)
    return registry, notes, resolve(registry, wanted)


@app.command("list")
def list_versions(name: Name = None, as_json: AsJson = False) -> None:
    """List every registered version, the champion marked."""
    from components.registry.versions import states

    model = name or _name()
    registry, notes = _opened(model)
    found = states(registry.rows(), registry.held())
    if as_json:
        print_json({"model": model, "versions": [entry.row() for entry in found], "notes": notes})
        return
    table = new_table(model, "version", "status", "F1#", "gates", "registered (UTC)", "commit")
    for entry in found:
        passed = f"{sum(gate['passed'] for gate in entry.gates)} of {len(entry.gates)}"
        add_row(
            table,
            entry.version,
            f"{entry.status}, withdrawn" if entry.withdrawn else entry.status,
            entry.facts["tags"].get("f1", ""),
            passed if entry.gates else "",
            entry.registered[:16].replace("T", " "),
            short(entry.facts["tags"].get("git_commit")),
            styles={1: _STYLES.get(entry.status, "")},
        )
    show(table if found else f"{model} has no versions yet; run `iml run`")


@app.command("show")
def show_version(model: Reference = None, as_json: AsJson = False) -> None:
    """Show a version: gates, metrics, lineage; its files are fetched and checked."""
    from components.registry.downloads import verify_download
    from components.registry.versions import states

    registry, notes, row = _resolved(model)
    entry = next(e for e in states(registry.rows()) if e.version == row.version)
    record = verify_download(registry, row.version, row.facts())
    metrics = registry.store.metrics(entry.facts["run_id"])
    if as_json:
        print_json({**entry.row(), "metrics": metrics, "lineage": record, "notes": notes})
    else:
        _show(entry, metrics, record)


def _show(entry: VersionState, metrics: dict[str, float], record: dict[str, Any]) -> None:
    title = f"{entry.model}/{entry.version} {entry.status}, files, record and signature verified"
    show(title, _STYLES.get(entry.status, ""))
    gates = gates_table("Gates", entry.gates, entry.overruled) if entry.gates else "not gated yet"
    show(gates)
    figures = new_table("Metrics", "metric", "value#", "interval#", "photos#")
    for name in sorted(metrics):
        if not name.endswith((".low", ".high", ".n")):
            low, high = metrics.get(f"{name}.low"), metrics.get(f"{name}.high")
            spread = "" if low is None or high is None else f"{low:.4f} to {high:.4f}"
            count = metrics.get(f"{name}.n")
            photos = "" if count is None else f"{count:.0f}"
            add_row(figures, name, f"{metrics[name]:.4g}", spread, photos)
    show(figures)
    show(_lineage(entry, record))


def _lineage(entry: VersionState, record: dict[str, Any]) -> Table:
    git, teacher, facts = record["git"], record["teacher"], entry.facts
    unclean = "" if git["clean"] else f" (with {len(git['dirty'])} uncommitted changes)"
    rows = {
        "git commit": f"{git['commit']}{unclean}",
        "dvc.lock": short(record["dvc_lock"]["sha256"]),
        **{
            f"data set {name}": f"{dataset['licence']}; boxes {short(dataset['boxes_sha256'])}"
            for name, dataset in record["datasets"].items()
        },
        "teacher": f"{teacher['name']} {short(teacher['sha256'])}",
        **{name: short(digest) for name, digest in facts["files"].items()},
        "lineage record": short(facts["record_sha256"]),
        "signature": short(facts["signature_sha256"]),
        "signed with key": short(facts["signing_key"]),
        "MLflow run": facts["run_id"],
    }
    return new_table("Lineage", "what", "value", rows=rows.items())


@app.command()
def card(model: Reference = None) -> None:
    """Print a version's model card (Markdown) and the path of its verified copy."""
    from components.registry import layout
    from components.registry.downloads import verified_copy

    registry, _, row = _resolved(model)
    folder = verified_copy(registry, row)
    typer.echo((folder / layout.CARD).read_text(encoding="utf-8"))
    typer.echo(f"Verified copy of all its files: {folder}", err=True)


@app.command()
def history(name: Name = None, as_json: AsJson = False) -> None:
    """Show every row of the promotion ledger: who, when, what and why."""
    from components.registry import row_signatures
    from components.registry.chain import LedgerHead, problems
    from components.registry.versions import Registry

    model = name or _name()
    registry = Registry.open(model)
    # The ledger_head first: rows that come in between are then only more than it has seen.
    ledger_head = LedgerHead.parse(registry.store.ledger_head(model))
    rows = registry.ledger.rows(model)
    damage = problems(rows, ledger_head) or [f.what for f in row_signatures.problems(rows)]
    if as_json:
        print_json({"model": model, "rows": [row.plain() for row in rows], "problems": damage})
    else:
        columns = ("row", "time (UTC)", "event", "version", "by", "why", "hash")
        cells = [
            (row.sequence, str(row.time)[:16].replace("T", " "), row.event, row.version, row.actor,
             row.reason, str(row.hash)[:8])
            for row in rows
        ]  # fmt: skip
        table = new_table(model, *columns, rows=cells)
        show(table if rows else f"{model} has no history yet; run `iml run`")
    # The rows are shown whatever they are; a damaged chain is the command's failure all the same.
    registry.rows()


def _parse(model: str) -> tuple[str, int]:
    from components.registry.versions import parse_reference

    name, version = parse_reference(model)
    if version is None:
        raise InputError(f"{model!r} has no version number", hint="use name/version")
    return name, version


def _parse_own(model: str) -> tuple[Params, str, int]:
    """params.yaml, and name and version of the model that it names."""
    from components.core import params

    name, version = _parse(model)
    settings = params.load()
    if name != settings.promotion.model:
        raise InputError(
            f"this workspace's model is {settings.promotion.model!r}, not {name!r}",
            where="params.yaml",
        )
    return settings, name, version


def _show_decision(row: Row, notes: list[str], as_json: bool, sentence: str) -> None:
    if as_json:
        print_json({"row": row.plain(), "notes": notes})
        return
    replaced = row.previous_champion
    after = f", in place of version {replaced}" if replaced else ""
    typer.echo(f"{row.model}/{row.version} is {sentence} (ledger row {row.sequence}){after}")


def _warn(note: str) -> None:
    typer.secho(f"note: {note}", fg="yellow", err=True)


@app.command()
def register(as_json: AsJson = False) -> None:
    """Register and sign this workspace's student; does nothing if it is already registered."""
    from components import workspace
    from components.core import params
    from components.registry import beginning
    from flows import candidate

    settings = params.load()
    name = settings.promotion.model
    beginning.check(name)
    with workspace.exclusive(), Catalogue(name).decisions():
        version, new = candidate.register(settings, _warn, "iml model register", pin=True)
    if as_json:
        print_json({"model": name, "version": version, "registered": new})
    else:
        typer.echo(f"{name}/{version} {'is registered' if new else 'was already registered'}")


@app.command()
def promote(model: Which, as_json: AsJson = False) -> None:
    """Apply the gates to this workspace's student and promote it, or leave that to `approve`.

    The version must be the student in runs/export. Exit code 1 if a gate fails.
    """
    from components import workspace
    from flows import candidate

    settings, name, version = _parse_own(model)
    with workspace.exclusive(), Catalogue(name).decisions():
        _opened(name, writing=True)
        decision = candidate.decide(settings, version)
    gates = [gate.row() for gate in decision.gates]
    if as_json:
        keys = ("model", "version", "champion", "promoted", "awaiting")
        facts = {key: getattr(decision, key) for key in keys}
        print_json({**facts, "gates": gates, "sentence": decision.sentence})
    else:
        show(gates_table(f"Gates of {model}", gates))
        typer.echo(decision.sentence)
    if not (decision.promoted or decision.awaiting):
        raise typer.Exit(1)


@app.command()
def approve(
    model: Which,
    reason: Why,
    by: Who = None,
    overrule: Annotated[
        bool,
        typer.Option(
            "--overrule",
            help="Also a version that failed only because the champion could not be compared.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Promote a version that passed its gates and awaits approval; checks the evidence again."""
    from components.registry import promotion
    from components.registry.ledger import actor_here

    settings, name, version = _parse_own(model)
    actor = by or actor_here()
    if settings.promotion.four_eyes and actor != actor_here():
        raise InputError(
            f"promotion.four_eyes records the account, which is {actor_here()}",
            where="--by",
            hint="leave it out",
        )
    with Catalogue(name).decisions():
        registry, notes = _opened(name, writing=True)
        row = promotion.approve(
            registry, version, settings.promotion, actor=actor, reason=reason, overrule=overrule
        )
    _show_decision(row, notes, as_json, "champion")


@app.command()
def rollback(model: Which, reason: Why, by: Who = None, as_json: AsJson = False) -> None:
    """Make an earlier champion champion again, after checking its files and signature."""
    from components.registry import promotion
    from components.registry.ledger import actor_here

    name, version = _parse(model)
    with Catalogue(name).decisions():
        registry, notes = _opened(name, writing=True)
        row = promotion.rollback(registry, version, actor=by or actor_here(), reason=reason)
    _show_decision(row, notes, as_json, "champion again")


@app.command()
def rename(
    now: Annotated[str, typer.Argument(help="The model's name in MLflow.")],
    before: Annotated[str, typer.Argument(help="Its name in the ledger.")],
    as_json: AsJson = False,
) -> None:
    """Undo a renaming in MLflow: give a model the name back that the ledger has."""
    from components.registry.alias import rename_back
    from components.registry.versions import Registry

    registry = Registry.open(before)
    rename_back(registry, now)
    if as_json:
        held = sorted(registry.held())
        print_json({"model": before, "renamed_from": now, "versions": held})
    else:
        typer.echo(f"MLflow's model {now} is {before} again; the ledger verifies")
