"""`iml serve` follows the ledger: a new champion takes over while the old one answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from registry_support import RULES, evidence, packages
from served import Served, serving
from small_students import nan_student, small_student

from components.evaluate.pictures import encoded
from components.export.onnx import save
from components.registry.promotion import decide_and_promote, register
from components.registry.versions import Registry
from components.serving.predictor import Predictor
from components.student.model import Student

PHOTO = np.random.default_rng(0).integers(0, 255, (90, 130, 3), dtype=np.uint8)


@pytest.fixture
def promote(registry: Registry, tmp_path: Path) -> Callable[[int, Student], int]:
    """Registers a student that loads, and makes it the champion."""
    make = packages(tmp_path)

    def run(number: int, student: Student) -> int:
        folder = tmp_path / f"student-{number}"
        folder.mkdir()
        save(student, folder)
        package = replace(make(str(number)), folder=folder)
        champion = registry.ledger.champion(registry.model)
        version = register(registry, package, clean=True, actor="ann")
        passing = evidence(champion)
        assert decide_and_promote(registry, version, passing, RULES, actor="ann").promoted
        return version

    return run


@pytest.fixture
def server(promote: Callable[[int, Student], int], tmp_path: Path) -> Iterator[Served]:
    promote(1, small_student(1))
    (tmp_path / "server").mkdir()
    options = ("--refresh", "0.5")
    with serving("m@champion", tmp_path / "server", *options, PYTHONPROFILEIMPORTTIME="1") as made:
        yield made


def ask(server: Served) -> dict[str, Any]:
    answer = httpx.post(
        f"{server.address}/predict",
        content=encoded(PHOTO, 100),
        headers={"Content-Type": "image/jpeg"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def health(server: Served) -> dict[str, Any]:
    answer = httpx.get(f"{server.address}/health", timeout=60)
    return {"code": answer.status_code, **answer.json()}


def until(true: Callable[[], bool], server: Served) -> None:
    limit = time.monotonic() + 240  # MLflow's import, on a busy machine
    while not true():
        assert time.monotonic() < limit, server.log.read_text()[-2000:]
        time.sleep(0.1)


def said(server: Served) -> list[str]:
    lines = server.log.read_text().splitlines()
    return [line for line in lines if not line.startswith("import time:")]


def test_a_new_champion_takes_over_while_the_old_one_answers(
    server: Served, promote: Callable[[int, Student], int], tmp_path: Path
) -> None:
    assert (ask(server)["model"], ask(server)["version"]) == ("m", 1)
    answers: list[dict[str, Any]] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            answers.append(ask(server))

    client = threading.Thread(target=load)
    client.start()
    promote(2, small_student(2))
    until(lambda: bool(answers) and answers[-1]["version"] == 2, server)
    stop.set()
    client.join()
    versions = [answer["version"] for answer in answers]
    assert versions == sorted(versions)
    assert set(versions) == {1, 2}
    # Every answer is the one of the version that it names.
    for number in (1, 2):
        predictor = Predictor(tmp_path / f"student-{number}")
        found = {
            (answer["weights_sha256"], answer["sha256"], answer["width"])
            for answer in answers
            if answer["version"] == number
        }
        assert {sha for sha, _, _ in found} == {predictor.weights_sha256}
    assert health(server)["version"] == 2
    assert server.metric('iml_refreshes_total{outcome="failed"}') == 0
    assert "m/2 answers now, in place of m/1" in said(server)
    lines = server.log.read_text().splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if "import time:" in line}
    assert "sqlalchemy" in imported
    assert "mlflow" not in imported


def test_the_old_one_stays_where_the_new_one_gives_no_usable_answer(
    server: Served, promote: Callable[[int, Student], int]
) -> None:
    promote(2, nan_student())
    until(lambda: health(server)["problem"] is not None, server)
    found = health(server)
    assert (found["code"], found["status"], found["version"]) == (200, "ok", 1)
    assert "the model's answer is unusable" in found["problem"]
    assert ask(server)["version"] == 1
    assert server.metric('iml_refreshes_total{outcome="failed"}') >= 1
    promote(3, small_student(3))
    until(lambda: health(server)["version"] == 3, server)
    assert health(server)["problem"] is None
    lines = said(server)
    assert len([line for line in lines if line.startswith("m/1 stays: ")]) == 1
    assert "m/3 answers now, in place of m/1" in lines


def test_the_old_one_stays_where_the_ledger_is_away(server: Served, tmp_path: Path) -> None:
    ledger = tmp_path / "state/ledger.db"
    ledger.write_bytes(b"no database" * 1000)
    until(lambda: health(server)["problem"] is not None, server)
    assert ask(server)["version"] == 1
    assert health(server)["code"] == 200


def test_without_a_service_it_waits_for_a_model(
    promote: Callable[[int, Student], int], tmp_path: Path
) -> None:
    with serving(
        "m@champion",
        tmp_path,
        "--refresh",
        "0.5",
        IML_LEDGER_URL="postgresql://iml@127.0.0.1:1/ledger",
    ) as served:
        found = health(served)
        assert (found["code"], found["status"]) == (503, "no model answers")
        assert "model" not in found
        answer = httpx.post(
            f"{served.address}/predict",
            content=encoded(PHOTO, 100),
            headers={"Content-Type": "image/jpeg"},
        )
        assert answer.status_code == 503
        assert answer.json()["detail"].startswith("no model answers yet; ")
        assert httpx.get(served.address).status_code == 200
        assert [line for line in said(served) if line.startswith("no model answers: ")]
