"""Photos of concurrent requests, decoded in threads and predicted together.

Decoded photos are held up to `BATCH_PIXELS` in sum, so that memory does not grow with the number of
requests; one that is larger is alone. Whatever waits is dropped when its request is cancelled.
"""

from __future__ import annotations

import asyncio
import base64
import queue
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from pydantic import BaseModel, Field

from components.core import images
from components.core.errors import ImlError, UnavailableError
from components.core.metrics import THRESHOLD
from components.core.stream import BATCH_PIXELS, batches, workers
from components.evaluate.pictures import encoded, marked
from components.serving.http.metrics import Metrics
from components.serving.http.models import Model, Models
from components.serving.inference import Examined, Limits, examine
from components.serving.predictor import Prediction

Result = TypeVar("Result")
Picture = Literal["mask", "overlay"]
_SIDE, _QUALITY = 1600, 90  # of an overlay: pixels of its longer side, JPEG quality


class Answer(BaseModel):
    """What `/predict` answers for one photo."""

    score: float | None = Field(
        description="how manipulated the photo looks as a whole, 0..1; null for an unsuitable one"
    )
    area: float | None = Field(description="share of its pixels above `threshold`, likewise")
    manipulated: bool | None = Field(
        description="whether the score is above `image_threshold`; null without either"
    )
    unsuitable: str | None = Field(description="why this photo gets no score")
    threshold: float = THRESHOLD
    image_threshold: float | None = Field(description="set by the model's calibration, if it was")
    width: int = Field(description="pixels, upright")
    height: int
    jpeg_quality: float | None = Field(description="1..100; null for other files")
    sha256: str = Field(description="of the photo's file")
    mask: str | None = Field(
        description="probability of each pixel, 0..255: an 8-bit grey PNG of the photo's size, "
        "base64; if it was asked for"
    )
    overlay: str | None = Field(
        description=f"the photo with the region above `threshold` outlined: a JPEG of at most "
        f"{_SIDE} pixels a side, base64; if it was asked for"
    )
    model: str
    version: int | None
    weights_sha256: str
    made_at: str
    program: str


class _Job(NamedTuple):
    photo: np.ndarray
    found: Future[tuple[Model, Prediction, float]]


class Engine:
    """Answers photos with the model that `models` holds at the time."""

    def __init__(self, models: Models, metrics: Metrics, max_megapixels: float) -> None:
        self._models, self._metrics, self._max = models, metrics, max_megapixels
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(workers(), thread_name_prefix="photos")
        self._room = _Room(BATCH_PIXELS)
        self._worker = threading.Thread(target=self._work, name="predictor", daemon=True)
        self._worker.start()

    async def answer(self, data: bytes, pictures: Collection[Picture]) -> bytes:
        """A photo's `Answer` as JSON; `data` is its file.

        Raises:
            images.PhotoError: it cannot be read.
            UnavailableError: no model answers.
        """
        start = time.perf_counter()
        width, height = await self._run(images.image_size, data, "photo", self._max)
        async with self._room.taken(width * height):
            admitted = time.perf_counter()
            one = await self._run(examine, data, Limits(), self._max)
            decoded = time.perf_counter()
            if one.unsuitable:
                model, found, seconds = self._model(), None, 0.0
            else:
                model, found, seconds = await self._predicted(one.photo)
            predicted = time.perf_counter()
            body = await self._run(_encoded, one, found, model, pictures)
        end = time.perf_counter()
        parts = {
            "queue": predicted - decoded - seconds + admitted - start,
            "decode": decoded - admitted,
            "encode": end - predicted,
            "total": end - start,
            **({"predict": seconds} if found else {}),
        }
        for part, took in parts.items():
            self._metrics.seconds.labels(part).observe(took)
        self._metrics.count(one, found)
        return body

    def close(self) -> None:
        """End the threads; what waits is dropped."""
        self._jobs.put(None)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[..., Result], *given: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *given)

    async def _predicted(self, photo: np.ndarray) -> tuple[Model, Prediction, float]:
        """A photo's answer, which model gave it, and the seconds its batch took."""
        job = _Job(photo, Future())
        self._jobs.put(job)
        return await asyncio.wrap_future(job.found)

    def _model(self) -> Model:
        if self._models.current is None:
            raise UnavailableError("no model answers yet", hint=self._models.problem or "")
        return self._models.current

    def _work(self) -> None:
        """Take all that waits and predict it in batches, until None comes."""
        while True:
            waiting = [self._jobs.get()]
            with suppress(queue.Empty):
                while True:
                    waiting.append(self._jobs.get_nowait())
            jobs = [job for job in waiting if job]
            for batch in batches(jobs, lambda job: job.photo.size // 3):
                # Those whose request was cancelled meanwhile are left out.
                self._predict([job for job in batch if job.found.set_running_or_notify_cancel()])
            if None in waiting:
                return

    def _predict(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        start = time.perf_counter()
        try:
            model = self._model()
            found = _found(model, [job.photo for job in jobs])
        except Exception as error:  # each request tells its client, or logs it
            for job in jobs:
                job.found.set_exception(error)
            return
        seconds = time.perf_counter() - start
        self._metrics.batch.observe(len(jobs))
        for job, one in zip(jobs, found, strict=True):
            job.found.set_result((model, one, seconds))


def _found(model: Model, photos: list[np.ndarray]) -> list[Prediction]:
    try:
        found = model.predictor.predict(photos)
    except ImlError as error:  # the model is wrong, not the photos
        model.failure = error.line()
        raise UnavailableError(error.what, where=error.where, hint=error.hint) from None
    model.failure = None
    return found


def _encoded(
    one: Examined, found: Prediction | None, model: Model, pictures: Collection[Picture]
) -> bytes:
    """The answer as JSON; its numbers are rounded as `iml predict` writes them."""
    made: dict[str, str] = {}
    if found and "mask" in pictures:
        made["mask"] = _base64(encoded(found.grey(), _QUALITY))
    if found and "overlay" in pictures:
        made["overlay"] = _base64(encoded(marked(one.photo, found.probability, _SIDE), _QUALITY))
    threshold = model.image_threshold
    answer = Answer(
        score=round(found.score, 6) if found else None,
        area=round(found.area, 6) if found else None,
        manipulated=None if found is None or threshold is None else found.score > threshold,
        unsuitable=one.unsuitable,
        image_threshold=threshold,
        width=one.photo.shape[1],
        height=one.photo.shape[0],
        jpeg_quality=one.quality,
        sha256=one.sha256,
        mask=made.get("mask"),
        overlay=made.get("overlay"),
        **model.now().row(),
    )
    return answer.model_dump_json().encode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class _Room:
    """So many pixels may be held at a time; first come, first served."""

    def __init__(self, pixels: int) -> None:
        self._all = self._free = pixels
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def taken(self, pixels: int) -> AsyncIterator[None]:
        """Room for a photo, once there is some; one that is larger than all gets all."""
        wanted = min(pixels, self._all)
        place = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, place))
        self._admit()
        try:
            await place
            yield
        finally:
            if place.cancelled():
                self._waiting = deque(one for one in self._waiting if one[1] is not place)
            else:
                self._free += wanted
            self._admit()

    def _admit(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            wanted, place = self._waiting.popleft()
            if not place.cancelled():
                self._free -= wanted
                place.set_result(None)
