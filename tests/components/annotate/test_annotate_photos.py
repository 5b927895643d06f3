"""What can be annotated, and that nothing outside it is read."""

from __future__ import annotations

import json
from pathlib import Path

import boto3
import pandas as pd
import pytest
from annotate_support import scene

from components.annotate import photos
from components.annotate.ranking import Ranked
from components.core.errors import InputError
from components.core.images import PhotoError
from components.data.manifest import write_table
from components.ingest.importing import import_dataset
from components.serving.table import SCORES


def test_a_folder_by_name_without_links_out_of_it(tmp_path: Path) -> None:
    inside, outside = (
        scene(tmp_path / "in/b ü.jpg", 80, 60, 1),
        scene(tmp_path / "out.jpg", 80, 60, 2),
    )
    (tmp_path / "in/a.jpg").symlink_to(outside)
    (tmp_path / "in/c.jpg").symlink_to(inside)
    (tmp_path / "in/sub").symlink_to(tmp_path)
    found = photos.find(str(tmp_path / "in"), tmp_path / "state")
    assert [photo.name for photo in found] == ["a.jpg", "b ü.jpg", "c.jpg"]
    with pytest.raises(PhotoError, match="leads out of the folder"):
        found[0].read()
    assert found[1].read() == found[2].read() == inside.read_bytes()


def test_a_run_of_scores_goes_by_score(tmp_path: Path) -> None:
    for number, name in enumerate(["a", "b", "c", "d"]):
        scene(tmp_path / f"in/{name}.jpg", 80, 60, number)
    out = tmp_path / "scored"
    out.mkdir()
    rows = [("b.jpg", "scored", 0.9), ("gone.jpg", "scored", 0.8), ("a.jpg", "scored", 0.1)]
    rows += [("c.jpg", "abstained", None), ("d.jpg", "failed", None)]
    table = pd.DataFrame(
        [{**dict.fromkeys(SCORES.names), "name": n, "status": s, "score": v} for n, s, v in rows]
    )
    write_table(out / "scores.parquet", table, SCORES)
    (out / "score.json").write_text(json.dumps({"source": str(tmp_path / "in")}))
    found = photos.find(str(out), tmp_path / "state")
    assert [photo.name for photo in found] == ["b.jpg", "a.jpg", "c.jpg"]
    assert found[0].read() == (tmp_path / "in/b.jpg").read_bytes()


def test_a_data_set_has_its_boxes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        scene(tmp_path / f"in/{name}.jpg", 80, 60, ord(name))
    index = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [{"id": 1, "image_id": 2, "category_id": 1, "bbox": [1, 2, 30, 40]}],
        "categories": [{"id": 1, "name": "manipulated"}],
    }
    (tmp_path / "in/boxes.json").write_text(json.dumps(index))
    card = {"name": "made", "licence": "CC0", "source_name": "here"}
    import_dataset(tmp_path / "in", tmp_path / "made", **card)
    a, b = photos.find(str(tmp_path / "made"), tmp_path / "state")
    assert (a.label, a.boxes) == ("authentic", ())
    assert (b.label, b.boxes) == ("manipulated", ((1, 2, 31, 42),))
    assert b.read() == (tmp_path / "in/b.jpg").read_bytes()


def test_a_prefix_of_a_bucket(tmp_path: Path, s3: str) -> None:
    client = boto3.client("s3")
    client.create_bucket(Bucket="desk")
    data = scene(tmp_path / "a.jpg", 80, 60, 1).read_bytes()
    client.put_object(Bucket="desk", Key="new/ä 1.jpg", Body=data)
    client.put_object(Bucket="desk", Key="old/b.jpg", Body=data)
    (found,) = photos.find("s3://desk/new", tmp_path / "state")
    assert (found.name, found.read()) == ("ä 1.jpg", data)


def test_a_ranking_says_what_comes_first_and_why(tmp_path: Path) -> None:
    for name in "abc":
        scene(tmp_path / f"{name}.jpg", 80, 60, 1)
    found = photos.find(str(tmp_path), tmp_path / "state")
    ranked = photos.ordered(found, [Ranked("c.jpg", 0.9, "strange"), Ranked("a.jpg", 0.2, "plain")])
    reasons = [(photo.name, photo.reason) for photo in ranked]
    assert reasons == [("c.jpg", "strange"), ("a.jpg", "plain"), ("b.jpg", None)]
    assert ranked[0].read() == found[2].read()


def test_nothing_to_annotate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no photos in it"):
        photos.find(str(tmp_path), tmp_path / "state")
    with pytest.raises(InputError, match="no such folder"):
        photos.find(str(tmp_path / "none"), tmp_path / "state")
