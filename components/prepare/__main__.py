"""Stage `prepare`: one manifest of all data sets of `prepare.datasets`."""

from __future__ import annotations

import shutil
import sys

from components.core import params
from components.core.errors import InputError, exit_on_error
from components.core.files import write_json, write_text
from components.core.paths import DATA, INDEXED, PREPARED
from components.data import index
from components.data import manifest as manifests
from components.data.build import summary
from components.data.manifest import AUTHENTIC, MANIPULATED, Manifest
from components.data.scan import QUARANTINE, Quarantined, quarantine_csv, refuse_many
from components.prepare.join import Joined, join, prefix

_NAMED = 3


def main() -> None:
    """Read params.yaml and runs/index, write runs/prepare.

    Raises:
        InputError: no usable data set, more unusable photos than allowed, or one class only.
    """
    values = params.load()
    settings, pool = values.prepare, values.distill.pool
    _forget_others(settings.datasets)
    parts = {name: index.read(INDEXED / name) for name in settings.datasets}
    first = settings.datasets[0]
    bad = [
        row._replace(photo=prefix(name, first) + row.photo)
        for name, found in parts.items()
        for row in found.quarantine
    ]
    joined = join(parts, settings, pool)
    # Written before the stage may stop: it is where people look up the rows.
    listed = PREPARED / QUARANTINE
    write_text(listed, quarantine_csv([*bad, *joined.left_out]))
    where = next((name for name, found in parts.items() if found.quarantine), first)
    refuse_many(bad, settings.max_quarantined, DATA / where, listed)
    _refuse_one_class(joined.manifest, ", ".join(str(DATA / name) for name in parts))
    _tell(joined)
    manifests.write(PREPARED, joined.manifest)
    write_json(PREPARED / "summary.json", _summary(parts, joined, bad))


def _forget_others(names: list[str]) -> None:
    """Remove what was indexed of data sets that are no longer named.

    DVC names this stage's input by all that is in the folder.
    """
    for folder in INDEXED.iterdir() if INDEXED.is_dir() else ():
        if folder.name not in names:
            shutil.rmtree(folder)


def _refuse_one_class(manifest: Manifest, where: str) -> None:
    """The pool does not count: authentic photos are needed to choose and test on, too."""
    labels = set(manifest.images["label"][~manifest.images["pool"]])
    for label in (MANIPULATED, AUTHENTIC):
        if label not in labels:
            raise InputError(
                f"no usable {label} photo in it",
                where=where,
                hint="training needs both classes: import a data set that has both",
            )


def _tell(joined: Joined) -> None:
    """Say what is not where its own data set has it."""
    said = {
        f"{name}: {{}} moved to {split}, with photos like them in another data set": photos
        for (name, split), photos in joined.moved.items()
    }
    said["{} of the pool left out, like photos held back for val or test"] = [
        row.photo for row in joined.left_out
    ]
    for text, photos in said.items():
        if photos:
            more = ", ..." if len(photos) > _NAMED else ""
            count = f"{len(photos)} photo{'s' * (len(photos) > 1)}"
            names = ", ".join(photos[:_NAMED])
            print(f"{text.format(count)} ({names}{more})", file=sys.stderr, flush=True)


def _summary(
    parts: dict[str, index.Indexed], joined: Joined, unusable: list[Quarantined]
) -> dict[str, object]:
    """Counts of all photos, and by data set with what was done to it."""
    images = joined.manifest.images
    moved = dict.fromkeys(parts, 0)
    for (name, _), photos in joined.moved.items():
        moved[name] += len(photos)
    counts = {
        name: {
            "licence": found.licence,
            "photos": int((images["dataset"] == name).sum()),
            "moved": moved[name],
        }
        for name, found in parts.items()
    }
    whole = summary(joined.manifest, unusable)
    pool = {"pool": int(images["pool"].sum()), "left_out": len(joined.left_out)}
    return {**whole, **pool, "datasets": counts}


if __name__ == "__main__":
    with exit_on_error():
        main()
