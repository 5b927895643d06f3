"""`iml dataset erase`: photos removed for good, with signed tombstones in their place."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from components.core.errors import InputError
from flows.cli._common import AsJson, new_table, print_json, show
from flows.cli.run import run

if TYPE_CHECKING:
    from components.registry.tombstones import Tombstone


def erase(
    photos: Annotated[
        list[str], typer.Argument(metavar="PHOTO...", help="Names in the data set, or SHA-256.")
    ],
    dataset: Annotated[str, typer.Option(help="Name of the data set, data/NAME.")],
    reason: Annotated[str, typer.Option(help="Why; goes into the tombstones.")],
    by: Annotated[str | None, typer.Option(help="Who erases them; default: this account.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report everything, change nothing.")
    ] = False,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Then retrain here without them, as `iml run` does.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Erase photos from data sets, caches, DVC's cache and remotes, and from versions' folders.

    Their boxes, masks and pseudo-masks go too, and so do pages and sheets that show them. Signed
    tombstones in tombstones/ say so to every later audit. Killed, the same command finishes it.
    """
    from components.core import params
    from components.lineage import erasure
    from components.registry import tombstones
    from components.registry.ledger import actor_here

    if retrain and (dry_run or as_json):
        raise InputError("--retrain goes with neither --dry-run nor --json", where="--retrain")
    settings = params.load()
    stones = erasure.plan(dataset, photos, reason=reason, who=by or actor_here())
    done = None if dry_run else erasure.erase(stones)
    champions = erasure.champions(stones)
    retire = settings.erasure.retire
    if as_json:
        found = [asdict(stone) for stone in stones]
        document = {"dataset": dataset, "dry_run": dry_run, "tombstones": found}
        document |= {"champions": champions, "retire": retire}
        print_json(document | {"erased": asdict(done) if done else None})
        return
    verb = "Would erase" if dry_run else "Erased"
    rows = [
        (str(tombstones.place(stone.sha256)), len(stone.objects), len(stone.files), _uses(stone))
        for stone in stones
    ]
    columns = ("tombstone", "objects#", "signed files#", "used by")
    show(new_table(f"{verb} from {dataset}", *columns, rows=rows))
    if done is None:
        return
    show(f"{done.objects} objects of DVC's cache and remotes and {done.files} files are gone.")
    for name in champions:
        rule = "; erasure.retire asks to replace it" if retire else ""
        show(f"{name} is champion and was trained on an erased photo{rule}", "yellow")
    for note in done.notes:
        show(f"note: {note}", "yellow")
    then = "" if retrain else ", then retrain without the photos: `iml run`"
    show(f"Commit tombstones/ and data/{dataset}.dvc{then}.")
    if retrain:
        run()


def _uses(stone: Tombstone) -> str:
    uses: dict[str, Any] = dict(stone.versions)
    return ", ".join(f"{name} ({use})" for name, use in uses.items()) or "no version"
