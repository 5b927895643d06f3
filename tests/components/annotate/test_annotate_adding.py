"""Decisions into a data set."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from annotate_support import decision, scene
from project import ROOT

from components.annotate.adding import Added, add, send
from components.annotate.decisions import Decision
from components.annotate.photos import Photo, find
from components.core import params
from components.core.errors import UnavailableError
from components.core.files import sha256_bytes
from components.data.build import build
from components.data.manifest import Manifest
from components.distill.examples import annotation_hours, collect
from components.ingest.inbox import Inbox
from components.pseudo_label.label import label_dataset

BOX, OTHER = [10.0, 10.0, 40.0, 50.0], [50.0, 5.0, 70.0, 30.0]


@pytest.fixture
def source(tmp_path: Path) -> list[Photo]:
    for number, name in enumerate("abcdef"):
        scene(tmp_path / f"in/{name}.jpg", 100, 80, number)
    return find(str(tmp_path / "in"), tmp_path)


def said(source: list[Photo], name: str, annotator: str = "Ada", **more: Any) -> Decision:
    photo = next(photo for photo in source if photo.name == name)
    return decision(name, annotator, **{"photo_sha256": sha256_bytes(photo.read()), **more})


def put(source: list[Photo], decisions: list[Decision], root: Path) -> Added:
    return add(source, decisions, root, "in", 64, root.parent)


def boxes(root: Path) -> dict[str, Any]:
    """Label and (bbox, annotator, seconds) by photo."""
    index = json.loads((root / "boxes.json").read_text(encoding="utf-8"))
    keys = ("bbox", "annotator", "seconds")
    return {
        image["file_name"]: (
            image["label"],
            [
                tuple(row.get(key) for key in keys)
                for row in index["annotations"]
                if row["image_id"] == image["id"]
            ],
        )
        for image in index["images"]
    }


def test_a_new_data_set_and_what_is_left_out(tmp_path: Path, source: list[Photo]) -> None:
    root = tmp_path / "made"
    decisions = [
        said(source, "a.jpg", boxes=[BOX, OTHER], seconds=9.0),
        said(source, "b.jpg", mark="authentic"),
        said(source, "c.jpg", mark="cannot tell"),
        said(source, "d.jpg", boxes=[BOX]),
        said(source, "d.jpg", "Ben", mark="authentic"),
        said(source, "e.jpg", boxes=[BOX], photo_sha256="f" * 64),
        said(source, "f.jpg", boxes=[BOX]),
        said(source, "f.jpg", "Ben", boxes=[OTHER]),
        decision("gone.jpg", "Ada", boxes=[BOX]),
    ]
    made = put(source, decisions, root)
    assert (made.added, made.replaced, made.known) == (3, 0, 0)
    assert dict(made.left_out) == {
        "c.jpg": "cannot tell",
        "d.jpg": "opinions differ: authentic, manipulated",
        "e.jpg": "has changed since it was decided",
        "gone.jpg": "is not in the source any more",
    }
    assert boxes(root) == {
        "a.jpg": ("manipulated", [([10, 10, 30, 40], "Ada", 4.5), ([50, 5, 20, 25], "Ada", 4.5)]),
        "b.jpg": ("authentic", []),
        "f.jpg": ("manipulated", [([10, 10, 30, 40], "Ada", 4.0)]),
    }
    again = put(source, decisions, root)
    assert (again.added, again.replaced, again.known) == (0, 0, 3)


def test_a_checked_data_set_keeps_what_nobody_changed(tmp_path: Path, source: list[Photo]) -> None:
    root = tmp_path / "made"
    first = [said(source, name, boxes=[BOX, OTHER]) for name in ("a.jpg", "b.jpg", "c.jpg")]
    put(source, first, root)
    before = boxes(root)
    known = find(str(root), tmp_path)
    kept = [list(box) for box in known[0].boxes]
    assert kept == [BOX, OTHER]
    moved = [[12.0, 10.0, 44.0, 50.0], kept[1]]
    decisions = [
        said(known, "a.jpg", "Ben", boxes=kept, seconds=2.0),
        said(known, "b.jpg", "Ben", boxes=moved, seconds=3.0),
        said(known, "c.jpg", "Ben", mark="authentic"),
    ]
    made = put(known, decisions, root)
    assert (made.added, made.replaced, made.known, made.left_out) == (0, 2, 1, [])
    after = boxes(root)
    assert after["a.jpg"] == before["a.jpg"]
    assert sorted(after["b.jpg"][1]) == [([12, 10, 32, 40], "Ben", 3.0), before["b.jpg"][1][1]]
    assert after["c.jpg"] == ("authentic", [])


def test_the_training_reckons_the_seconds_that_were_recorded(
    tmp_path: Path, source: list[Photo]
) -> None:
    """From the page's seconds to the hours in runs/distill/summary.json."""
    root, out = tmp_path / "made", tmp_path / "pseudo"
    decisions = [
        said(source, "a.jpg", boxes=[BOX, OTHER], seconds=9.0),
        said(source, "b.jpg", boxes=[BOX], seconds=2.5),
        said(source, "c.jpg", mark="authentic", seconds=4.0),
    ]
    put(source, decisions, root)
    settings = params.load(ROOT / "params.yaml")
    manifest, _ = build(root, settings.prepare)
    made = manifest.images.assign(split=["train", "val", "train"])
    manifest = Manifest(made, manifest.boxes)
    teacher = settings.pseudo_label.model_copy(update={"teacher": "box"})
    label_dataset(manifest, root, teacher, out, tmp_path / "cache")
    examples = collect(manifest, root, out, settings.distill)
    hours = annotation_hours(manifest, examples)
    assert hours["boxes"] == pytest.approx((9.0 + 2.5) / 3600)


def test_nothing_decided_makes_nothing(tmp_path: Path, source: list[Photo]) -> None:
    made = put(source, [replace(said(source, "a.jpg"), mark="not usable")], tmp_path / "made")
    assert made == Added(left_out=[("a.jpg", "not usable")])
    assert not (tmp_path / "made").exists()


def test_only_what_is_new_is_sent(
    tmp_path: Path, source: list[Photo], s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    boto3.client("s3").create_bucket(Bucket="sent")
    inbox, place = Inbox("s3://sent/in"), tmp_path / "in-1234"
    place.mkdir()
    a, b = said(source, "a.jpg", boxes=[BOX]), said(source, "b.jpg", mark="authentic")
    unsure = said(source, "c.jpg", mark="cannot tell")
    first = send(source, [a, unsure], inbox, place)
    assert (first.added, first.known, first.left_out) == (1, 0, [("c.jpg", "cannot tell")])
    again = send(source, [a, unsure], inbox, place)
    assert (again.added, again.known, again.batch) == (0, 1, None)
    # A store that does not answer: nothing counts as sent, and the next time it is.
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        away = Inbox("s3://sent/in")
        with pytest.raises(UnavailableError):
            send(source, [a, unsure, b], away, place)
    second = send(source, [a, unsure, b], inbox, place)
    assert (second.added, second.known) == (1, 1)
    changed = send(source, [replace(a, boxes=[OTHER]), unsure, b], inbox, place)
    assert (changed.added, changed.known) == (1, 1)
    batches = {batch.name: len(batch.objects) for batch in inbox.batches()}
    assert batches == dict.fromkeys([first.batch, second.batch, changed.batch], 3)
    assert all(name.startswith("in-1234-") for name in batches)
