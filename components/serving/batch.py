"""Predict photo files: find them, score them as a stream, write mask, overlay and JSON of each.

On request also a report of each (`components.serving.report`). A photo that cannot be read is an
outcome with a reason, never the end of the batch. The JSON is written last, so where there is one
the other files beside it are complete.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from components.core import images
from components.core.errors import InputError
from components.core.files import printable, sha256_bytes, write_json, write_text
from components.core.metrics import THRESHOLD
from components.core.progress import Progress
from components.core.stream import ahead
from components.evaluate.pictures import overlay
from components.serving.inference import Limits, Scored, scored
from components.serving.origin import Origin
from components.serving.predictor import Predictor
from components.serving.sources import walk

MASK, OVERLAY, REPORT, RECORD = ".mask.png", ".overlay.png", ".report.html", ".json"
_LONGEST = 200  # bytes of a result's name, so that number and suffix fit into 255


class Task(NamedTuple):
    """A photo's file, and the path of its results below the output folder, without suffix."""

    photo: Path
    name: str


# Makes a photo's report from the name of its file, the file itself and what was found in it
Report = Callable[[str, bytes, Scored[Task]], str]


@dataclass(frozen=True)
class Outcome:
    """The result for one photo: its numbers, or `error`."""

    photo: str  # the file as named or found, in UTF-8
    name: str  # of its results, below the output folder, without suffix
    score: float | None = None  # how manipulated the photo looks as a whole, 0..1
    area: float | None = None  # share of its pixels above the threshold
    width: int | None = None  # pixels, upright
    height: int | None = None
    sha256: str | None = None  # of the file
    unsuitable: str | None = None  # why these numbers say little about this photo
    report: str | None = None  # its page, below the output folder
    error: str | None = None  # why the photo cannot be used


def find(paths: Sequence[Path], out: Path) -> list[Task]:
    """The photos to predict: files as named, folders searched (by suffix, without hidden files).

    Results are named after the photo without its suffix, below the same sub-folders. Where two
    photos would share a name the later one gets a number; a name too long for the suffixes is cut.

    Raises:
        InputError: no photo at all.
    """
    names: dict[str, int] = {}
    seen: set[Path] = set()
    tasks = []
    for given in paths:
        for photo in walk(given, out) if given.is_dir() else [given]:
            earlier = given.is_dir() and photo.name.endswith((MASK, OVERLAY))
            if earlier or photo.resolve() in seen:
                continue
            seen.add(photo.resolve())
            below = photo.relative_to(given) if given.is_dir() else Path(photo.name)
            tasks.append(Task(photo, _free(_result(below), names)))
    if not tasks:
        raise InputError("no photos in it", where=", ".join(str(path) for path in paths))
    return tasks


def _result(below: Path) -> str:
    """A photo's path without suffix, in UTF-8, its name cut to what a file's may have."""
    path = Path(printable(str(below.with_suffix(""))))
    stem = path.name.encode()
    if len(stem) <= _LONGEST:
        return path.as_posix()
    cut = f"{stem[:_LONGEST].decode(errors='ignore')}-{sha256_bytes(stem)[:8]}"
    return path.with_name(cut).as_posix()


def _free(name: str, names: dict[str, int]) -> str:
    """`name`, or `name-2`, `name-3` ... where it is taken, ignoring case like some file systems."""
    candidate, number = name, 1
    while candidate.lower() in names:
        number += 1
        candidate = f"{name}-{number}"
    names[candidate.lower()] = number
    return candidate


def _write(
    one: Scored[Task], out: Path, origin: Origin, report: Report | None, max_megapixels: float
) -> Outcome:
    """Write a photo's files."""
    task, photo, found = one.item, one.photo, one.found
    path = printable(str(task.photo))
    if photo is None or found is None:
        return Outcome(path, task.name, error=one.error)
    outcome = Outcome(
        path,
        task.name,
        score=round(found.score, 6),
        area=round(found.area, 6),
        width=photo.shape[1],
        height=photo.shape[0],
        sha256=one.sha256,
        unsuitable=one.unsuitable,
        report=task.name + REPORT if report else None,
    )
    if report:
        try:
            page = report(task.photo.name, _same(one, max_megapixels), one)
        except images.PhotoError as error:
            return Outcome(path, task.name, error=error.reason)
        write_text(out / (task.name + REPORT), page)
    images.save_grey(out / (task.name + MASK), found.grey())
    images.save_photo(out / (task.name + OVERLAY), overlay(photo, found.probability))
    values = {key: value for key, value in asdict(outcome).items() if key not in ("name", "error")}
    write_json(out / (task.name + RECORD), values | {"threshold": THRESHOLD} | origin.row())
    return outcome


def _same(one: Scored[Task], max_megapixels: float) -> bytes:
    """A photo's file, read again; raises PhotoError where it has changed since."""
    data = images.read_bytes(one.item.photo, max_megapixels)
    if sha256_bytes(data) != one.sha256:
        raise images.PhotoError("changed while it was examined", str(one.item.photo))
    return data


def predict_files(
    predictor: Predictor,
    tasks: Sequence[Task],
    out: Path,
    origin: Origin,
    *,
    report: Report | None = None,
    max_megapixels: float = images.MAX_MEGAPIXELS,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Predict every task and write `NAME.mask.png`, `NAME.overlay.png` and `NAME.json` below `out`.

    With `report` also `NAME.report.html`. Existing results of the same name are replaced; each JSON
    names the origin. Returns one outcome per task, in their order.

    Raises:
        InputError: the model's answer is unusable; nothing is written for that photo.
    """
    found = scored(
        tasks,
        lambda task: images.read_bytes(task.photo, max_megapixels),
        predictor,
        Limits(),
        abstain=False,
        max_megapixels=max_megapixels,
    )
    outcomes = []
    # A report asks the model for more answers: one at a time, so that memory stays bounded.
    threads = 1 if report else None
    write = partial(_write, out=out, origin=origin, report=report, max_megapixels=max_megapixels)
    for outcome in ahead(found, write, threads):
        outcomes.append(outcome)
        if progress:
            progress(len(outcomes), len(tasks))
    return outcomes
