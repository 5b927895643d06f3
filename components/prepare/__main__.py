"""Stage `prepare`: a data set's folder into manifest, boxes, quarantine list and counts."""

from __future__ import annotations

from pathlib import Path

from components.core import params
from components.core.errors import InputError, exit_on_error
from components.core.files import write_json, write_text
from components.core.paths import DATA, PREPARED
from components.data import manifest as manifests
from components.data.build import build, summary
from components.data.dataset import load
from components.data.manifest import AUTHENTIC, MANIPULATED, Manifest
from components.data.scan import QUARANTINE, quarantine_csv, refuse_many


def main() -> None:
    """Read params.yaml and the data set, write runs/prepare.

    Raises:
        InputError: no usable data set, more unusable photos than allowed, or one class only.
    """
    settings = params.load().prepare
    root = DATA / settings.dataset
    manifest, quarantine = build(root, settings)
    # Written before the stage may stop: it is where people look up the rows.
    listed = PREPARED / QUARANTINE
    write_text(listed, quarantine_csv(quarantine))
    refuse_many(quarantine, settings.max_quarantined, root, listed)
    _refuse_one_class(manifest, root)
    manifests.write(PREPARED, manifest)
    write_json(PREPARED / "summary.json", summary(load(root).licence, manifest, quarantine))


def _refuse_one_class(manifest: Manifest, root: Path) -> None:
    labels = set(manifest.images["label"])
    for label in (MANIPULATED, AUTHENTIC):
        if label not in labels:
            raise InputError(
                f"no usable {label} photo in it",
                where=str(root),
                hint="training needs both classes: import a data set that has both",
            )


if __name__ == "__main__":
    with exit_on_error():
        main()
