"""Batch scoring: every photo of a folder or S3 prefix into a table, overlays and a triage page.

The photos are listed as a stream and scored in parts by `components.core.crew`: workers read them
where they lie, this process writes the table, and overlays of those photos alone that the page
shows. Memory does not grow with the number of photos. An interrupted run continues where it was; a
photo that has changed is scored again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from components.core import images
from components.core.crew import Crew, Way
from components.core.errors import InputError
from components.core.files import read_json, write_bytes, write_json
from components.core.progress import Progress
from components.core.stream import ahead
from components.serving import own_code
from components.serving.inference import Limits, Scored, scored
from components.serving.origin import Origin, Student
from components.serving.own_code import OwnCode
from components.serving.predictor import Predictor
from components.serving.sources import Item, Selection, Source, open_source
from components.serving.table import ABSTAINED, FAILED, SCORED, Plan, Row, Table
from components.serving.triage import OVERLAYS, Triage, drawn, overlay

SETTINGS = "score.json"
THREADS = 1  # of a worker: the workers are the parallelism, and threads change float sums


@dataclass(frozen=True)
class Summary:
    """The result of a run: photos in the table by status, and how many of them are new."""

    scored: int
    abstained: int
    failed: int
    new: int


class Shard(NamedTuple):
    """Photos to score; those with a lower score than `floor` are not shown."""

    items: list[Item]
    floor: float


class Found(NamedTuple):
    """Their rows, and the overlays, as JPEG files, of those that may be shown."""

    rows: list[Row]
    overlays: dict[str, bytes]


class Scorer:
    """A worker: the model, and the source, opened at the first question."""

    def __init__(self, source: Callable[[], Source], predictor: Predictor, limits: Limits) -> None:
        self._open, self._predictor, self._limits = source, predictor, limits

    @cached_property
    def _source(self) -> Source:
        return self._open()

    @property
    def way(self) -> Way:
        """Alone with a GPU, or a version's own code, which is one process with threads."""
        own_code = isinstance(self._predictor, OwnCode)
        return "alone" if own_code or self._predictor.device != "cpu" else "processes"

    def identity(self) -> Any:
        """What scores depend on besides the photos; raises InputError for a source out of reach."""
        next(iter(self._source.items()), None)
        libraries = ("numpy", "onnxruntime", "pillow")
        code = {name: version(name) for name in libraries}
        return self._predictor.weights_sha256, code, images.decoder(), type(self._source).__name__

    def work(self, shard: Shard) -> Found:
        """Score photos; the same whatever was scored before."""
        answers = scored(
            shard.items, self._source.read, self._predictor, self._limits, abstain=True
        )
        rows: list[Row] = []
        pictures: dict[str, bytes] = {}
        for row, picture in ahead(answers, partial(_row, floor=shard.floor)):
            rows.append(row)
            if picture is not None:
                pictures[row["name"]] = picture
        first = Triage()
        first.add(rows)
        return Found(
            rows, {r["name"]: pictures[r["name"]] for r in first.top if r["name"] in pictures}
        )


def _row(one: Scored[Item], floor: float) -> tuple[Row, bytes | None]:
    """The row of a photo, and its overlay if its score reaches `floor`."""
    row: Row = dict.fromkeys(("reason", "score", "area", "width", "height"))
    row |= {"jpeg_quality": one.quality, "sha256": one.sha256}
    row = {"name": one.item.name, "mark": one.item.mark, "status": FAILED} | row
    if one.photo is None:
        return row | {"reason": one.error}, None
    row |= {"width": one.photo.shape[1], "height": one.photo.shape[0]}
    if one.found is None:
        return row | {"status": ABSTAINED, "reason": one.unsuitable}, None
    numbers = {"score": round(one.found.score, 6), "area": round(one.found.area, 6)}
    shown = numbers["score"] >= floor
    picture = drawn(one.photo, one.found.probability) if shown else None
    return row | numbers | {"status": SCORED}, picture


def run(
    student: Student,
    source: str,
    out: Path,
    device: str = "cpu",
    limits: Limits = Limits(),  # noqa: B008 - frozen
    selection: Selection = Selection(),  # noqa: B008
    progress: Progress | None = None,
) -> tuple[Origin, Summary]:
    """`score` of a student and a place; the origin of the answers as well."""
    predictor = own_code.load(student, THREADS if device == "cpu" else 0, device)
    origin = Origin.of(student, predictor.weights_sha256)
    place = partial(open_source, source, out)
    return origin, score(place, predictor, out, source, origin, limits, selection, progress)


def score(
    source: Callable[[], Source],
    predictor: Predictor,
    out: Path,
    source_name: str,
    origin: Origin,
    limits: Limits,
    selection: Selection = Selection(),  # noqa: B008
    progress: Progress | None = None,
) -> Summary:
    """Score every photo of a source that is not scored yet, then write index and triage page.

    Args:
        source: opens where the photos are, in each worker.
        predictor: what scores; each worker gets its own.
        out: folder of the results; if it holds some already, the run continues them.
        source_name: of the source, for people.
        origin: of the answers, kept beside them; its time and program are the last run's.
        limits: where to abstain.
        selection: which photos of the source.
        progress: called with photos done and listed.

    Raises:
        InputError: no photos, or `out` holds results of another source, model, limits or selection.
        CheckError: photos that kill their worker, or a cluster that fails.
    """
    listed = source()
    items = iter(selection.of(listed.items()))
    if (first := next(items, None)) is None:
        raise InputError("no photos in it", where=source_name)
    about = {"source": source_name, **origin.row()}
    _claim(out, {**about, "limits": asdict(limits), **selection.row()})
    table, triage = Table(out), Triage()
    crew: Crew[Shard, Found] = Crew(Scorer, source, predictor, limits, threads=THREADS)
    new = 0
    for plan, found in _made(crew, table.plans(chain([first], items)), triage):
        for name, picture in found.overlays.items():
            write_bytes(out / overlay(name), picture)
        triage.add(table.write(plan, found.rows))
        new += len(found.rows)
        if progress:
            progress(table.counts.total(), table.listed)
    table.finish()
    _show(out, triage, crew, listed)
    triage.write(out, about)
    counts = table.counts
    return Summary(counts[SCORED], counts[ABSTAINED], counts[FAILED], new)


def _made(
    crew: Crew[Shard, Found], plans: Iterable[Plan], triage: Triage
) -> Iterator[tuple[Plan, Found]]:
    """Each plan with what workers found for it."""
    given: deque[Plan] = deque()

    def shards() -> Iterator[Shard]:
        for plan in plans:
            given.append(plan)
            yield Shard(plan.left, triage.floor)

    for found in crew.map(shards()):
        yield given.popleft(), found


def _show(out: Path, triage: Triage, crew: Crew[Shard, Found], listed: Source) -> None:
    """Keep the overlays that the page shows; draw those that an earlier run had no need of."""
    names = {overlay(row["name"]): row["name"] for row in triage.top}
    for path in (out / OVERLAYS).glob("*"):  # also what a kill left half written
        if names.pop(f"{OVERLAYS}/{path.name}", None) is None:
            path.unlink()
    if names:
        (found,) = crew.map([Shard([listed.item(name) for name in sorted(names.values())], 0.0)])
        for name, picture in found.overlays.items():
            write_bytes(out / overlay(name), picture)


def _claim(out: Path, settings: dict[str, object]) -> None:
    """Record what the results belong to; raises InputError for a folder with other results."""
    path = out / SETTINGS
    if path.is_file():
        kept = read_json(path)
        same = ("source", "weights_sha256", "limits", "since", "sample", "seed")
        if not isinstance(kept, dict) or any(kept.get(key) != settings[key] for key in same):
            raise InputError(
                "holds scores of another source, model, limits or selection",
                where=str(out),
                hint="choose another folder",
            )
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, settings)
