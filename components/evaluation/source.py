"""Which photos of a data set a model is scored on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from components.data import dataset as datasets
from components.data import importing, prepare
from components.data.manifest import Manifest
from components.errors import InputError
from components.evaluation.run import Progress
from components.params import Prepare


def _refuse_unusable(quarantine: Sequence[tuple[str, str]], settings: Prepare, where: Path) -> None:
    if len(quarantine) > settings.max_quarantined:
        photo, reason = quarantine[0]
        raise InputError(
            f"{len(quarantine)} unusable photos, the first is {photo} ({reason})",
            where=str(where),
            mend="mend them, or raise prepare.max_quarantined in params.yaml",
        )


@contextmanager
def opened(
    source: Path, scratch: Path, settings: Prepare, progress: Progress | None = None
) -> Iterator[Path]:
    """A data set's folder: `source` itself if it is one, else imported for the time being.

    Args:
        source: a data set's folder, or a file or folder in any importable format.
        scratch: where a temporary data set may be made.
        settings: `max_quarantined` photos may be unusable, `max_megapixels` limits each.
        progress: called as progress(done, total) with photos checked.

    Raises:
        InputError: nothing readable, or too many unusable photos.
    """
    if (source / datasets.CARD).is_file():
        yield source
        return
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".data-") as folder:
        root = Path(folder) / "data"
        imported = importing.import_dataset(
            source,
            root,
            name=source.resolve().name or "data",
            licence="unknown",
            source_name=source.resolve().name or "data",
            quarantine=True,
            max_megapixels=settings.max_megapixels,
            progress=progress,
        )
        _refuse_unusable(imported.quarantined, settings, source)
        yield root


def held_back(
    root: Path, settings: Prepare, progress: Progress | None = None
) -> tuple[Manifest, str]:
    """A data set's photos that no model was trained on, and which they are in words.

    Of a data set that states splits, its `test` photos, or `val` where it has no `test`. Of one
    that states none, all: whoever trains on it here names it in `prepare.dataset`, and then the
    test split drawn for it applies.

    Args:
        root: the data set's folder.
        settings: how its manifest is made.
        progress: called as progress(done, total) with photos looked at.

    Raises:
        InputError: no usable data set, or more unusable photos than `max_quarantined`.
    """
    dataset = datasets.load(root)
    manifest, quarantine = prepare.build(root, settings, progress)
    _refuse_unusable(quarantine, settings, root)
    if dataset.split == "grouped":
        drawn = root.resolve() == (Path("data") / settings.dataset).resolve()
        return (manifest.select("test"), "test split") if drawn else (manifest, "all photos")
    for split in ("test", "val"):
        names = [row["file_name"] for row in dataset.images if row.get("split") == split]
        photos = manifest.where(manifest.images["image_id"].isin(names))
        if len(photos.images):
            return photos, f"{split} split"
    return manifest, "all photos"
