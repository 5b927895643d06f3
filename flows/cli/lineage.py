"""`iml lineage`, `iml audit`, `iml replay`: what a version was made from, and proof of it."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from components.core.errors import InputError
from components.core.files import canonical_json, check_folder, check_place, write_text
from components.core.paths import RUNS
from components.core.words import plain
from flows.cli._common import AsJson, add_row, new_table, print_json, progress_bars, short, show

if TYPE_CHECKING:
    from components.lineage.replay import Replay
    from components.lineage.verdict import Audit

app = typer.Typer(
    help="What versions were made from: show, diff, export, events.", no_args_is_help=True
)
CHAMPION = "boxpromptiml@champion"
Reference = Annotated[str, typer.Argument(metavar="M", help="name@champion or name/version.")]
_PHOTOS_SHOWN, _FINDINGS_SHOWN = 50, 20  # on the terminal; JSON has all
_STYLES = {
    "verified": "green",
    "broken": "bold red",
    "unverifiable": "yellow",
    "bit-equal": "green",
    "within tolerance": "yellow",
    "different": "bold red",
}


@app.command("show")
def show_lineage(
    model: Reference = CHAMPION,
    photo: Annotated[
        str | None,
        typer.Option(help="SHA-256 or file of a photo: list every version that used it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the photos and boxes of a version, or the versions that used a photo.

    Exit code 1: the photos of some version are unknown, so the answer is incomplete.
    """
    if photo:
        _uses(model, photo, as_json)
    else:
        _version(model, as_json)


def _version(model: str, as_json: bool) -> None:
    from components.lineage.bundle import evidence_of
    from components.lineage.photos import rows

    with evidence_of(model, whole=False) as evidence:
        record, found, name = evidence.record, rows(evidence), evidence.name
    if as_json:
        print_json({"version": name, "record": record, "photos": found})
        return
    facts = {"git commit": record["git"]["commit"]}
    for key, dataset in record["datasets"].items():
        facts[f"data set {key}"] = f"{dataset['source']}; licence {dataset['licence']}"
    for key in ("teacher", "backbone"):
        used = record.get(key) or {}
        facts[key] = f"{plain(used.get('name'))} {short(used.get('sha256'))}".strip()
    show(new_table(name, "what", "value", rows=facts.items()))
    photos = [
        (
            row["path"],
            f"{row['role']}; erased, by tombstone" if row["erased"] else row["role"],
            row["label"],
            len(row["boxes"]),
            short(row["sha256"]),
        )
        for row in found[:_PHOTOS_SHOWN]
    ]
    show(new_table("Photos", "path", "role", "label", "boxes#", "SHA-256", rows=photos))
    left = len(found) - _PHOTOS_SHOWN
    more = f"and {left} more; " if left > 0 else ""
    show(f"{more}--json has all photos, coordinates and hashes")


def _uses(model: str, photo: str, as_json: bool) -> None:
    from components.lineage.photos import uses
    from components.registry.versions import parse_reference

    name = parse_reference(model)[0] if "/" in model or "@" in model else model
    answer = uses(name, photo)
    if as_json:
        found = [asdict(use) for use in answer.found]
        document = {"model": name, "sha256": answer.sha256, "uses": found}
        print_json({**document, "unknown": answer.unknown})
    else:
        _show_uses(name, answer.found, answer.unknown)
    if answer.unknown:
        raise typer.Exit(1)


def _show_uses(name: str, found: list[Any], unknown: dict[int, str]) -> None:
    rows = [(use.version, use.path, use.split, len(use.boxes)) for use in found]
    table = new_table(f"Versions of {name}", "version#", "path", "split", "boxes#", rows=rows)
    show(table if found else f"No known version of {name} was made from this photo.")
    for version, why in unknown.items():
        show(f"version {version} is unknown: {why}", "yellow")


@app.command()
def diff(
    old: Annotated[str, typer.Argument(metavar="A", help="A version or bundle.")],
    new: Annotated[str, typer.Argument(metavar="B", help="Another version or bundle.")],
    as_json: AsJson = False,
) -> None:
    """Show what changed from A to B: photos, boxes, parameters, code, packages, results."""
    from components.lineage.bundle import evidence_of
    from components.lineage.difference import explain

    with evidence_of(old, whole=False) as before, evidence_of(new, whole=False) as after:
        groups, names = explain(before, after), (before.name, after.name)
    if as_json:
        print_json({"from": names[0], "to": names[1], "changes": groups})
        return
    typer.echo(f"From {names[0]} to {names[1]}:")
    for title, sentences in groups.items():
        typer.echo(f"\n{title.capitalize()}" + ("" if sentences else ": no change"))
        for sentence in sentences:
            typer.echo(f"  {sentence}")


@app.command()
def export(
    model: Reference = CHAMPION,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file to write; default: runs/bundles/MODEL-VERSION.tar or .intoto.jsonl."
        ),
    ] = None,
    photos: Annotated[
        bool, typer.Option("--photos", help="Include the photos and true masks.")
    ] = False,
    attestations: Annotated[
        bool,
        typer.Option(
            "--attestations", help="Only its in-toto attestations, for other programs: JSON lines."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write one archive that `iml audit` checks without a network."""
    from components.lineage import bundle

    if photos and attestations:
        raise InputError("--photos or --attestations, not both", where="iml lineage export")
    if out:
        check_place(out)
    with bundle.evidence_of(model) as evidence:
        name = evidence.name
        stem = RUNS / "bundles" / f"{evidence.model}-{evidence.version}"
        out = check_place(out or Path(f"{stem}{'.intoto.jsonl' if attestations else '.tar'}"))
        if attestations:
            _attestations(name, out, bundle.attestations(evidence), as_json)
            return
        counts = bundle.export(evidence, out, photos=photos)
    if as_json:
        print_json({"version": name, "file": str(out), **counts})
        return
    left = f", {counts['left_out']} photos and masks left out" if counts["left_out"] else ""
    typer.echo(
        f"{name}: {counts['objects']} objects{left}, {counts['bytes'] / 1e6:.1f} MB in {out}"
    )


def _attestations(name: str, out: Path, found: list[dict[str, Any]], as_json: bool) -> None:
    write_text(out, "".join(f"{canonical_json(envelope).decode()}\n" for envelope in found))
    if as_json:
        print_json({"version": name, "file": str(out), "attestations": len(found)})
    else:
        typer.echo(f"{name}: {len(found)} attestations in {out}")


@app.command()
def events(
    model: Reference = CHAMPION,
    out: Annotated[Path | None, typer.Option(help="Append JSON lines to this file.")] = None,
    url: Annotated[str | None, typer.Option(help="Send to this OpenLineage server.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send every stage and decision to a lineage catalogue, as OpenLineage events."""
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
        print_json({"version": name, "to": str(out or url), "events": jobs})
    else:
        typer.echo(f"{name}: {len(found)} events to {out or url}: {', '.join(jobs)}")


def audit(
    model: Annotated[
        str, typer.Argument(metavar="M", help="name@champion, name/version or an exported bundle.")
    ] = CHAMPION,
    deep: Annotated[
        bool, typer.Option("--deep", help="Fetch every object from the DVC remote and hash it.")
    ] = False,
    page: Annotated[
        Path | None, typer.Option(help="Also write a self-contained HTML page here.")
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="A checkpoint of the ledger that somebody else kept; also several.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Follow a version back to the photos that made it and recompute every hash.

    Exit code 0: everything verified; 1: something is broken; 2: evidence is missing, or bad input.
    """
    from components.lineage.bundle import evidence_of

    if page:
        check_place(page)
    texts = {str(p): p.read_text(encoding="utf-8", errors="replace") for p in checkpoint or []}
    with evidence_of(model) as found:
        from components.lineage.audit import audit as walk

        evidence = replace(found, witnesses=texts)

        with progress_bars() as bar:
            answer = walk(evidence, deep=deep, progress=bar("objects"))
    if page:
        from components.lineage.audit import render

        write_text(page, render(answer))
    if as_json:
        print_json(answer.row())
    else:
        _show_audit(answer)
        if page:
            show(f"Page: {page}")
    raise typer.Exit(answer.exit_code)


def _show_audit(answer: Audit) -> None:
    from components.lineage.verdict import LINKS, Verdict, worst

    table = new_table(f"Audit of {answer.model}/{answer.version}", "link", "verdict", "what")
    for name, findings in answer.by_link().items():
        verdict = worst(findings)
        what = "; ".join(f.what for f in findings if f.verdict == verdict)[:300]
        add_row(table, LINKS[name][0], verdict, what, styles={1: _STYLES[verdict]})
    show(table)
    wrong = [f for f in answer.findings if f.fault]
    for finding in wrong[:_FINDINGS_SHOWN]:
        show(f"{finding.verdict}: {finding.line()}", _STYLES[finding.verdict])
    if len(wrong) > _FINDINGS_SHOWN:
        show(f"and {len(wrong) - _FINDINGS_SHOWN} more; see --json or --page")
    for finding in answer.of(Verdict.REMARK):
        show(f"{finding.verdict}: {finding.line()}")
    show(answer.sentence())


def replay(
    model: Annotated[
        str,
        typer.Argument(metavar="M", help="name@champion, name/version or a bundle with photos."),
    ] = CHAMPION,
    into: Annotated[
        Path | None, typer.Option(help="Keep the clone in this new folder; default: removed.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Use this thread count instead of the recorded ones.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Clone at the recorded commit, fetch the inputs, force every stage, compare every output.

    It runs the version's own commands, so it refuses a version that no trusted key signed.

    Exit code 0: bit-equal or within the stated tolerances; 1: different, or cannot be replayed.
    """
    from components.lineage.bundle import evidence_of

    if into and os.path.exists(into):
        raise InputError("already exists", where=str(into), hint="name a new folder")
    if into:
        check_folder(into.parent)
    with evidence_of(model) as evidence, TemporaryDirectory(prefix="iml-replay-") as scratch:
        # It imports torch, which a refused argument does not need.
        from components.lineage.replay import Match
        from components.lineage.replay import replay as make

        folder = into or Path(scratch, "clone")
        answer = make(evidence, folder, lambda line: typer.echo(line, err=True), threads=threads)
    if as_json:
        print_json(answer.row())
    else:
        _show_replay(answer)
    if answer.match == Match.DIFFERENT:
        raise typer.Exit(1)


def _show_replay(answer: Replay) -> None:
    table = new_table(f"Replay of {answer.model}/{answer.version}", "stage", "outputs", "how")
    for stage in answer.stages:
        how = "; ".join(f"{out.path}: {out.how}" for out in stage.outputs if out.how)[:400]
        add_row(table, stage.name, stage.match, how, styles={1: _STYLES[stage.match]})
    show(table)
    for change in answer.changes:
        show(change, "yellow")
    show(answer.sentence())
