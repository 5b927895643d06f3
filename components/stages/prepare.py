"""Stage `prepare`: a data set's folder into manifest, boxes, quarantine list and counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from components import params
from components.data import manifest as manifests
from components.data.dataset import load
from components.data.importing import quarantine_csv
from components.data.manifest import AUTHENTIC, MANIPULATED, Manifest
from components.data.prepare import Quarantined, build
from components.errors import InputError, exit_on_error
from components.files import write_json, write_text

OUT = Path("runs/prepare")
QUARANTINE = OUT / "quarantine.csv"


def main() -> None:
    """Read params.yaml and the data set, write runs/prepare.

    Raises:
        InputError: no usable data set, more unusable photos than allowed, or one class only.
    """
    settings = params.load().prepare
    root = Path("data") / settings.dataset
    manifest, quarantine = build(root, settings)
    # Written before the stage may stop: it is where people look up the rows.
    write_text(QUARANTINE, quarantine_csv(quarantine))
    _refuse_many(quarantine, settings.max_quarantined, root)
    _refuse_one_class(manifest, root)
    manifests.write(OUT, manifest)
    write_json(OUT / "summary.json", summary(load(root).licence, manifest, quarantine))


def _refuse_many(quarantine: Sequence[Quarantined], limit: int, root: Path) -> None:
    if len(quarantine) > limit:
        first = quarantine[0]
        more = f" and {len(quarantine) - 1} more" if len(quarantine) > 1 else ""
        raise InputError(
            f"{first.photo}: {first.reason}{more}, {limit} may be left out",
            where=str(root),
            mend=f"see {QUARANTINE}; correct them or raise prepare.max_quarantined",
        )


def _refuse_one_class(manifest: Manifest, root: Path) -> None:
    labels = set(manifest.images["label"])
    for label in (MANIPULATED, AUTHENTIC):
        if label not in labels:
            raise InputError(
                f"no usable {label} photo in it",
                where=str(root),
                mend="training needs both classes: import a data set that has both",
            )


def summary(licence: str, manifest: Manifest, quarantine: Sequence[Quarantined]) -> dict[str, Any]:
    """Counts of a manifest; equal manifests give equal summaries."""
    images = manifest.images
    splits = {str(split): _counts(rows["label"]) for split, rows in images.groupby("split")}
    return {
        "photos": len(images),
        "boxes": len(manifest.boxes),
        "groups": int(images["group"].nunique()),
        "quarantined": len(quarantine),
        "licence": licence,
        "splits": splits,
        "sources": int(images["source"].nunique()),
        "kinds": _counts(images["kind"].dropna()),
    }


def _counts(column: pd.Series) -> dict[str, int]:
    return {str(name): int(count) for name, count in sorted(column.value_counts().items())}


if __name__ == "__main__":
    with exit_on_error():
        main()
