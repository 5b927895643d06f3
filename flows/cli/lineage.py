"""`iml lineage`: what a version was made from, what changed between two, and bundles to audit."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli._common import RUNS

app = typer.Typer(
    help="What versions were made from: show, diff, export, events.", no_args_is_help=True
)
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Reference = Annotated[str, typer.Argument(metavar="M", help="name@champion or name/version.")]
_SHOWN = 50  # photos on the terminal; JSON has all


def _print(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


@app.command()
def show(
    model: Reference = "boxpromptiml@champion",
    photo: Annotated[
        str | None,
        typer.Option(help="SHA-256 or file of a photo: list every version that used it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the photos and boxes of a version, or the versions that used a photo.

    Exit code 1: the photos of some version are unknown, so the answer is incomplete.
    """
    if photo:
        _show_uses(model, photo, as_json)
    else:
        _show_version(model, as_json)


def _show_version(model: str, as_json: bool) -> None:
    from components.lineage.bundle import evidence_of
    from components.lineage.photos import rows

    with evidence_of(model, whole=False) as evidence:
        record, found, name = evidence.record, rows(evidence), evidence.name
    if as_json:
        _print({"version": name, "record": record, "photos": found})
        return
    from rich.console import Console

    from components.core.words import plain
    from flows.cli._tables import add_row, new_table, short

    console = Console()
    table = new_table(name, "what", "value")
    add_row(table, "git commit", record["git"]["commit"])
    for key, said in record["datasets"].items():
        add_row(table, f"data set {key}", f"{said['source']}; licence {said['licence']}")
    for key in ("teacher", "backbone"):
        said = record.get(key) or {}
        add_row(table, key, f"{plain(said.get('name'))} {short(said.get('sha256'))}".strip())
    console.print(table)
    photos = new_table("Photos", "path", "role", "label", "boxes#", "SHA-256")
    for row in found[:_SHOWN]:
        boxes = str(len(row["boxes"]))
        add_row(photos, row["path"], row["role"], row["label"], boxes, short(row["sha256"]))
    console.print(photos)
    more = f"and {len(found) - _SHOWN} more; " if len(found) > _SHOWN else ""
    console.print(f"{more}--json has all photos, coordinates and hashes")


def _show_uses(model: str, photo: str, as_json: bool) -> None:
    from components.lineage.photos import uses
    from components.registry.versions import parse_reference

    name = parse_reference(model)[0] if "/" in model or "@" in model else model
    answer = uses(name, photo)
    if as_json:
        _print(
            {
                "model": name,
                "sha256": answer.sha256,
                "uses": [asdict(use) for use in answer.found],
                "unknown": answer.unknown,
            }
        )
    else:
        _show_table(name, answer.found, answer.unknown)
    if answer.unknown:
        raise typer.Exit(1)


def _show_table(name: str, found: list[Any], unknown: dict[int, str]) -> None:
    from rich.console import Console
    from rich.text import Text

    from flows.cli._tables import add_row, new_table

    console = Console()
    table = new_table(f"Versions of {name}", "version#", "path", "split", "boxes#")
    for use in found:
        add_row(table, str(use.version), use.path, use.split, str(len(use.boxes)))
    console.print(table if found else Text(f"No known version of {name} was made from this photo."))
    for version, why in unknown.items():
        console.print(Text(f"version {version} is unknown: {why}", style="yellow"))


@app.command()
def diff(
    old: Annotated[str, typer.Argument(metavar="A", help="A version or bundle.")],
    new: Annotated[str, typer.Argument(metavar="B", help="Another version or bundle.")],
    as_json: Json = False,
) -> None:
    """Show what changed from A to B: photos, boxes, parameters, code, packages, results."""
    from components.lineage.bundle import evidence_of
    from components.lineage.difference import explain

    with evidence_of(old, whole=False) as before, evidence_of(new, whole=False) as after:
        groups, names = explain(before, after), (before.name, after.name)
    if as_json:
        _print({"from": names[0], "to": names[1], "changes": groups})
        return
    typer.echo(f"From {names[0]} to {names[1]}:")
    for title, sentences in groups.items():
        typer.echo(f"\n{title.capitalize()}" + ("" if sentences else ": no change"))
        for sentence in sentences:
            typer.echo(f"  {sentence}")


@app.command()
def export(
    model: Reference = "boxpromptiml@champion",
    out: Annotated[
        Path | None,
        typer.Option(help="The archive to write; default: runs/bundles/MODEL-VERSION.tar."),
    ] = None,
    photos: Annotated[
        bool, typer.Option("--photos", help="Include the photos and true masks.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write one archive that `iml audit` checks without a network."""
    from components.core.files import check_place
    from components.lineage.bundle import evidence_of
    from components.lineage.bundle import export as write

    if out:
        check_place(out)
    with evidence_of(model) as evidence:
        name = evidence.name
        out = check_place(out or RUNS / "bundles" / f"{evidence.model}-{evidence.version}.tar")
        counts = write(evidence, out, photos=photos)
    if as_json:
        _print({"version": name, "file": str(out), **counts})
        return
    left = f", {counts['left_out']} photos and masks left out" if counts["left_out"] else ""
    typer.echo(
        f"{name}: {counts['objects']} objects{left}, {counts['bytes'] / 1e6:.1f} MB in {out}"
    )


@app.command()
def events(
    model: Reference = "boxpromptiml@champion",
    out: Annotated[Path | None, typer.Option(help="Append JSON lines to this file.")] = None,
    url: Annotated[str | None, typer.Option(help="Send to this OpenLineage server.")] = None,
    as_json: Json = False,
) -> None:
    """Send every stage and decision to a lineage catalogue, as OpenLineage events."""
    from components.core.errors import InputError
    from components.core.files import check_place
    from components.lineage.bundle import evidence_of

    if (out is None) == (url is None):
        raise InputError("needs --out or --url", where="iml lineage events")
    if out:
        check_place(out)
    with evidence_of(model, whole=False) as evidence:
        from components.lineage import events as lineage

        found, name = lineage.events(evidence), evidence.name
    transport = lineage.to_file(out) if out else lineage.to_server(url or "")
    lineage.emit(found, transport, str(out or url))
    jobs = list(dict.fromkeys(event.job.name for event in found))
    if as_json:
        _print({"version": name, "to": str(out or url), "events": jobs})
    else:
        typer.echo(f"{name}: {len(found)} events to {out or url}: {', '.join(jobs)}")
