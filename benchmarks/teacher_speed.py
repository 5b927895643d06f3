"""How fast are pseudo-masks made? Against a plain predictor loop, cold and from the cache.

Start-up (imports, worker processes, weights) is left out of loop and cold stage: a rate is taken
from the first finished photos to the last. The cached stage is timed whole, weights included.
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import make_photos, prepare_settings
from components.core.files import inside
from components.core.images import open_mask, open_photo, save_grey
from components.core.params import PseudoLabel
from components.data import build as prepare
from components.data import scan
from components.data.manifest import MANIPULATED, Manifest
from components.ingest.importing import import_dataset
from components.pseudo_label.label import boxes_by_photo, label_dataset
from components.pseudo_label.quality import pseudo_mask
from components.pseudo_label.registry import build

_LOOP = 100  # photos of the plain loop


def bench_speed(data: Path | None, made: int, params: PseudoLabel) -> dict[str, Any]:
    """Photos a second of the plain loop, of the stage, and of the stage once more.

    The plain loop opens one photo after another, asks box by box in float32 with all cores, and
    writes the mask, as one would with segment-anything's SamPredictor.

    Args:
        data: any readable data set with masks; None to make photos.
        made: so many made photos (384x256, one box on every second) where `data` is None.
        params: the block `pseudo_label`.

    Returns:
        photos; photos a second of `loop`, `stage` and `cached`; their ratios to the loop;
        `iou`, mean IoU of the stage's masks with the loop's; peak memory in MB of this process
        and of the largest worker, half-way and at the end.
    """
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "data"
        if data is None:
            make_photos(root, made)
        else:
            import_dataset(
                data, root, name="bench", licence="bench", source_name="bench", quarantine=True
            )
        manifest, _ = prepare.build(root, prepare_settings(near_duplicate_bits=0))
        manifest = manifest.select(label=MANIPULATED)
        return _measure(manifest, root, params, Path(scratch))


def _measure(manifest: Manifest, root: Path, params: PseudoLabel, scratch: Path) -> dict[str, Any]:
    count = manifest.boxes["image_id"].nunique()
    watch = _Watch()
    label_dataset(manifest, root, params, scratch / "cold", scratch / "cache", watch)
    start = time.perf_counter()
    label_dataset(manifest, root, params, scratch / "warm", scratch / "cache")
    warm = time.perf_counter() - start
    loop = _loop(manifest, root, params, scratch / "loop")
    stage, cached = watch.rate(), count / warm
    return {
        "photos": count,
        "photos_a_second": {"loop": loop, "stage": stage, "cached": cached},
        "ratio_to_loop": {"stage": stage / loop, "cached": cached / loop},
        "iou": _agreement(scratch / "loop", scratch / "cold" / "masks"),
        "peak_mb": watch.peaks,
    }


class _Watch:
    """Called with (done, total): when the first and the last were done, and memory meanwhile."""

    def __init__(self) -> None:
        self._begun: tuple[float, int] | None = None
        self._ended = (0.0, 0)
        self.peaks: dict[str, dict[str, float]] = {}

    def __call__(self, done: int, total: int) -> None:
        """Note time and, half-way and at the end, memory."""
        now = time.perf_counter()
        # The first groups come from workers that started at different times.
        if self._begun is None and done >= min(64, total // 4 + 1):
            self._begun = now, done
        self._ended = now, done
        if done in (total // 2, total):
            self.peaks["end" if done == total else "half-way"] = _peak()

    def rate(self) -> float:
        """Photos a second between the two."""
        start, before = self._begun or self._ended
        end, after = self._ended
        return (after - before) / max(end - start, 1e-9)


def _peak() -> dict[str, float]:
    """MB of this process so far, and of the largest worker still at work."""
    import psutil

    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    sizes = [child.memory_info().rss / 1e6 for child in psutil.Process().children()]
    return {"here": own, "worker": max(sizes, default=0.0)}


def _loop(manifest: Manifest, root: Path, params: PseudoLabel, out: Path) -> float:
    """Photos a second of the plain loop, its first photo left out."""
    teacher = build(params)
    if params.teacher == "sam_lite":
        from components.pseudo_label.checkpoints import Checkpoint
        from components.pseudo_label.teachers.sam_lite import WEIGHTS
        from components.pseudo_label.teachers.sam_lite.model import load_teacher

        checkpoint = Checkpoint(Path(params.checkpoint or WEIGHTS.path))
        teacher = load_teacher(checkpoint, scan.cores(), batch=1, half=False)
    boxes = boxes_by_photo(manifest.boxes)
    rows = [row for row in manifest.images.to_dict("records") if row["image_id"] in boxes]
    some = rows[:: max(1, len(rows) // _LOOP)]
    start = 0.0
    for number, row in enumerate(some):
        if number == 1:
            start = time.perf_counter()
        photo = open_photo(inside(root, row["path"]))
        mask = pseudo_mask(teacher, photo, boxes[row["image_id"]]).mask
        save_grey(out / f"{row['image_id']}.png", mask)
    return (len(some) - 1) / (time.perf_counter() - start)


def _agreement(loop: Path, stage: Path) -> float:
    """Mean IoU of the masks that both made."""
    found = []
    for path in sorted(loop.rglob("*.png")):
        one, other = open_mask(path), open_mask(stage / path.relative_to(loop))
        if (one | other).any():
            found.append((one & other).sum() / (one | other).sum())
    return float(np.mean(found))
