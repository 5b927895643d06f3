"""How time and memory grow with the rows of a data set, without decoding a photo."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import peak_mb
from components.core.errors import CheckError

STEPS = ("index", "prepare", "validate", "show")
PER_FOLDER, SIZE = 10_000, 512
_ROOT = Path(__file__).resolve().parents[1]


def bench_scale(rows: Sequence[int], steps: Sequence[str] = STEPS) -> dict[str, Any]:
    """Time and peak memory of each step on made data sets of so many photos, half with a box.

    Each step has a process of its own. `index` reads the data set's index and writes the tables,
    with a stand-in for hashing and decoding; `prepare` is the stage; `validate` reads, validates
    and renders; `show` looks one photo up in a version's manifest, boxes and data listing.

    Args:
        rows: numbers of photos, ascending.
        steps: of `STEPS`, in this order; each needs those before it.

    Returns:
        For each step, by rows: seconds and cpu_seconds after imports, peak_mb (with imports); with
        several sizes also the log-log slopes of seconds and memory from first to last.

    Raises:
        CheckError: a measuring process failed.
    """
    found: dict[str, Any] = {step: {} for step in steps}
    for count in rows:
        with tempfile.TemporaryDirectory(prefix="iml-bench-") as folder:
            _make(Path(folder), count)
            for step in steps:
                found[step][str(count)] = _measured(Path(folder), step)
    for step in steps if len(rows) > 1 else ():
        first, last = (found[step][str(count)] for count in (rows[0], rows[-1]))
        growth = math.log(rows[-1] / rows[0])
        found[step]["slope"] = {
            name: math.log(last[name] / first[name]) / growth for name in ("seconds", "peak_mb")
        }
    return found


def _make(folder: Path, count: int) -> None:
    """A data set of empty files with a COCO index, in a workspace with this project's params."""
    from components.data.dataset import PHOTOS, Dataset, save

    root = folder / "data/made"
    names = [f"{n // PER_FOLDER:04d}/photo-{n:08d}.jpg" for n in range(count)]
    for number in range(0, count, PER_FOLDER):
        (root / PHOTOS / f"{number // PER_FOLDER:04d}").mkdir(parents=True)
    for name in names:
        os.close(os.open(root / PHOTOS / name, os.O_CREAT))
    images = [
        {
            "id": n + 1,
            "file_name": name,
            "width": SIZE,
            "height": SIZE,
            "label": ("authentic", "manipulated")[n % 2],
        }
        for n, name in enumerate(names)
    ]
    annotations = [
        {"id": n, "image_id": image["id"], "category_id": 1, "bbox": [9.0, 9.0, 99.0, 99.0]}
        for n, image in enumerate(images[1::2])
    ]
    save(Dataset(root, "made", "none", "made", "given", "grouped", images, annotations))
    text = (_ROOT / "params.yaml").read_text(encoding="utf-8")
    assert "datasets: [demo]" in text  # noqa: S101
    (folder / "params.yaml").write_text(text.replace("[demo]", "[made]"), encoding="utf-8")


def _measured(folder: Path, step: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", step],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise CheckError(f"measuring failed: {' '.join(last)}", where=f"bench scale {step}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _index() -> Callable[[], object]:
    from components.data import index

    index.scan = _unseen  # type: ignore[assignment]
    from components.index.__main__ import main

    return lambda: main(["made"])


def _unseen(_: object, count: int, *__: Any) -> list[Any]:
    """What looking at photos would find, without reading one: all differ."""
    from components.data.scan import Scan

    hashes = np.random.default_rng(7).integers(0, 1 << 63, count).tolist()
    pairs = enumerate(hashes)
    return [Scan(f"{n:064x}", (SIZE, SIZE), f"{value:016x}") for n, value in pairs]


def _prepare() -> Callable[[], object]:
    from components.prepare.__main__ import main

    return main


def _validate() -> Callable[[], object]:
    from components.core import params
    from components.core.paths import DATA, PREPARED
    from components.data import manifest
    from components.validate.report import render
    from components.validate.suite import great_expectations, validate
    from components.validate.tables import BOXES_READ, IMAGES_READ, related

    def work() -> None:
        tables = manifest.read(PREPARED, IMAGES_READ, BOXES_READ)
        rows = related(tables)
        render(validate(tables, DATA, params.load().validate_, rows), tables, rows)

    great_expectations()
    return work


def _show() -> Callable[[], object]:
    """What `iml lineage show --photo` does for one version, its objects in a folder."""
    from components.core.paths import BOXES, MANIFEST
    from components.lineage import photos
    from components.lineage.evidence import Evidence
    from components.workspace.remote import FOLDER, Objects

    outs = []
    for path in (MANIFEST, BOXES):
        with path.open("rb") as file:
            md5 = hashlib.file_digest(file, "md5").hexdigest()
        place = Path("remote", FOLDER, md5[:2], md5[2:])
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        outs.append({"path": str(path), "md5": md5})
    params = {"params.yaml": {"prepare.datasets": ["made"]}}
    layout = {"parameters": {"datasets": "prepare.datasets"}}
    stages = [{"name": "prepare", "deps": [], "outs": outs, "params": params}]

    class Recorded(Evidence):
        record = {"layout": layout, "stages": stages}  # noqa: RUF012

    remote, nowhere = Objects.of_folder(Path("remote")), Path("none")
    evidence = Recorded("made", 1, "", [], None, None, None, nowhere, nowhere, None, remote)
    return lambda: photos.uses_in(evidence, {f"{1:064x}": set()})


def main(step: str) -> None:
    """Run one step here and print what it took after its imports."""
    steps = {"index": _index, "prepare": _prepare, "validate": _validate, "show": _show}
    work = steps[step]()
    start, used = time.perf_counter(), time.process_time()
    work()
    seconds, used = time.perf_counter() - start, time.process_time() - used
    print(json.dumps({"seconds": seconds, "cpu_seconds": used, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main(sys.argv[1])
