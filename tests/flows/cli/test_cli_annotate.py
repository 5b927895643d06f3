"""`iml annotate` from one S3 prefix into the inbox on another, and from there into the data set."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from annotate_support import Served, annotating, scene

from components import workspace
from components.core import params
from components.core.errors import InputError
from components.data import dataset as datasets
from components.ingest.importing import import_dataset
from components.ingest.inbox import RECORD, Inbox
from flows import publishing
from flows.cli.annotate import _inbox

BOX = [10.0, 12.0, 60.0, 50.0]
NAMES = ["a.jpg", "straße ü.jpg", "sub/c.jpg"]


@pytest.fixture
def client(s3: str) -> Any:
    made = boto3.client("s3")
    for bucket in ("desk", "arrivals"):
        made.create_bucket(Bucket=bucket)
    return made


@pytest.fixture
def scheduled(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a data set `demo`, tracked, whose inbox is `s3://arrivals/street`."""
    scene(project / "old/old.jpg", 100, 80, 99)
    card = {"name": "demo", "licence": "CC0", "source_name": "desk"}
    import_dataset(project / "old", project / "data/demo", authentic=True, **card)
    for command in (
        ["git", "init", "-q"],
        ["git", "config", "user.name", "Test"],
        ["git", "config", "user.email", "test@example.org"],
        [sys.executable, "-m", "dvc", "init", "-q"],
    ):
        subprocess.run(command, check=True, capture_output=True)
    workspace.dvc_add(Path("data/demo"))
    monkeypatch.setenv("IML_INBOX", "s3://arrivals/street/")
    return project


def decide(served: Served, *decisions: tuple[int, str]) -> None:
    with httpx.Client(headers={"X-Token": served.token}, timeout=60) as client:
        for photo, mark in decisions:
            boxes = [BOX] if mark == "manipulated" else []
            said = {"photo": photo, "mark": mark, "boxes": boxes, "annotator": "Ada"}
            answer = client.post(f"{served.origin}/api/decide", json={**said, "seconds": 6.5})
            assert answer.status_code == 200, answer.text


def test_what_is_decided_is_a_batch_that_the_schedule_takes_in(
    client: Any, scheduled: Path, tmp_path: Path
) -> None:
    for number, name in enumerate(NAMES):
        data = scene(tmp_path / "shots" / name, 100, 80, number).read_bytes()
        client.put_object(Bucket="desk", Key=f"new/{name}", Body=data)
    arguments = ("s3://desk/new", "--into", "s3://arrivals/street/")
    with annotating(tmp_path / "desk", *arguments) as served:
        decide(served, (0, "manipulated"), (1, "authentic"), (2, "cannot tell"))
        said = served.stop()
    assert "in s3://arrivals/street/, added" in said
    (batch,) = Inbox("s3://arrivals/street").batches()
    assert batch.source == "."
    assert batch.name in said

    publishing.take_inbox(params.load())
    found = datasets.load("data/demo")
    by_name = {image["file_name"]: image for image in found.images}
    assert sorted(by_name) == ["a.jpg", "old.jpg", "straße ü.jpg"]
    for name in NAMES[:2]:
        photo = (scheduled / "data/demo/photos" / name).read_bytes()
        assert photo == (tmp_path / "shots" / name).read_bytes()
    (row,) = found.annotations
    assert row["image_id"] == by_name["a.jpg"]["id"]
    assert row["bbox"] == [10, 12, 50, 38]
    assert (row["annotator"], row["seconds"]) == ("Ada", 6.5)
    assert by_name["straße ü.jpg"]["label"] == "authentic"
    taken = json.loads(Path(RECORD).read_text())[batch.name]
    assert (taken["added"], taken["known"], taken["rejected"]) == (2, 0, [])

    # What is decided later is a batch of its own.
    with annotating(tmp_path / "desk", *arguments, "--json") as served:
        decide(served, (2, "manipulated"))
        told = json.loads(served.stop())
    assert (told["added"], told["known"], told["dataset"]) == (1, 2, arguments[-1])
    publishing.take_inbox(params.load())
    assert len(datasets.load("data/demo").images) == 4
    assert json.loads(Path(RECORD).read_text())[told["batch"]]["added"] == 1


def test_an_inbox_that_is_none_says_so_before_anybody_draws(client: Any) -> None:
    with pytest.raises(InputError, match="NoSuchBucket"):
        _inbox("s3://no-such-bucket-at-all/in")
    with pytest.raises(InputError, match="--into"):
        _inbox("s3:///in")
    assert _inbox("street") is None
