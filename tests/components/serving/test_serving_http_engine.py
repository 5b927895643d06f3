"""Behind `iml serve`: room for decoded photos, a model that fails, a body that does not come."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.exceptions import HTTPException

from components.core.errors import InputError, UnavailableError
from components.evaluate.pictures import encoded
from components.serving.http import app
from components.serving.http.engine import Engine, _Room
from components.serving.http.metrics import Metrics
from components.serving.http.models import Models
from components.serving.origin import Student

PHOTO = encoded(np.random.default_rng(0).integers(0, 255, (90, 130, 3), dtype=np.uint8), 90)


async def entered(room: _Room, pixels: int, done: asyncio.Event) -> None:
    async with room.taken(pixels):
        await done.wait()


def test_room_is_given_in_order_and_one_that_is_too_large_is_alone() -> None:
    async def run() -> None:
        room, done = _Room(10), asyncio.Event()
        tasks = [asyncio.create_task(entered(room, pixels, done)) for pixels in (4, 6, 99, 1)]
        await asyncio.sleep(0)
        assert (room._free, len(room._waiting)) == (0, 2)  # the large one first, then the last
        tasks[2].cancel()
        tasks[0].cancel()
        await asyncio.wait(tasks[:3:2])
        await asyncio.sleep(0)
        assert (room._free, len(room._waiting)) == (3, 0)
        large = asyncio.create_task(entered(room, 99, done))
        await asyncio.sleep(0)
        assert len(room._waiting) == 1
        done.set()
        await asyncio.gather(tasks[1], tasks[3], large)
        assert room._free == 10

    asyncio.run(run())


def test_a_model_that_fails_is_said_and_loaded_again(student_folder: Path) -> None:
    metrics = Metrics()
    models = Models(lambda _first: Student(student_folder, "s", None), metrics)
    engine = Engine(models, metrics, 1.0)

    def ask() -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(asyncio.run(engine.answer(PHOTO, [])))
        return answer

    def fail(_photos: object) -> None:
        raise InputError("the code that the version carries fails", where="v")

    with pytest.raises(UnavailableError, match="no model answers yet"):
        ask()
    models.look()
    first = models.current
    assert ask()["score"] is not None
    models.look()
    assert models.current is first  # the same version is not loaded again
    first.predictor.predict = fail
    with pytest.raises(UnavailableError, match="carries fails"):
        ask()
    health = app._health(models)
    assert health.status_code == 503
    assert json.loads(health.body)["failure"] == "v: the code that the version carries fails"
    models.look()
    assert models.current is not first
    assert ask()["score"] is not None
    assert app._health(models).status_code == 200
    engine.close()


def test_a_body_that_does_not_come_ends_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_SECONDS", 0.01)
    with pytest.raises(HTTPException, match="no photo within") as caught:
        asyncio.run(app._in_time(asyncio.sleep(60)))
    assert caught.value.status_code == 408
