"""`iml dataset rank`: sources, orders, table, CSV and JSON."""

from __future__ import annotations

import csv
import html
import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from components.core import params
from components.core.errors import InputError
from components.core.images import save_photo
from components.core.paths import PREPARED, PSEUDO_LABELED
from components.data import manifest as manifests
from components.data.build import build
from components.data.dataset import Dataset, load, save
from components.pseudo_label.label import label_dataset
from flows.cli import annotate, predict
from flows.cli.dataset import app


def _photos(folder: Path, count: int) -> list[str]:
    for number in range(count):
        random = np.random.default_rng(number)
        save_photo(folder / f"p{number}.png", random.integers(0, 255, (70, 80, 3), dtype=np.uint8))
    return [f"p{number}.png" for number in range(count)]


def _dataset(root: Path, count: int) -> list[str]:
    names = _photos(root / "photos", count)
    images = [
        {"id": n, "file_name": name, "width": 80, "height": 70, "label": "authentic"}
        for n, name in enumerate(names)
    ]
    save(Dataset(root, "made", "CC0", "made", "given", "grouped", images, []))
    return names


def _rank(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["rank", *(str(argument) for argument in arguments)])


def test_a_folder_is_ranked_by_gain_as_json_and_csv(project, student_folder):
    names = _photos(project / "in", 4)
    (project / "in/broken.jpg").write_bytes(b"no photo")
    done = _rank("in", "--model", student_folder, "--json", "--out", "order.csv")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    rows = document["photos"]
    assert (document["source"], document["order"]) == ("in", "gain")
    assert [row["position"] for row in rows] == [1, 2, 3, 4, 5]
    assert sorted(row["name"] for row in rows[:4]) == names
    assert (rows[4]["name"], rows[4]["value"]) == ("broken.jpg", 0.0)
    assert rows[4]["reason"]
    with open("order.csv", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [
        {**row, "position": int(row["position"]), "value": float(row["value"])} for row in table
    ] == rows


def test_a_table_shows_position_photo_value_and_reason(project, student_folder):
    _photos(project / "in", 45)
    done = _rank("in", "--order", "score", "--model", student_folder)
    assert done.exit_code == 0, done.output
    assert all(word in done.stdout for word in ("position", "photo", "value", "reason"))
    assert "looks manipulated" in done.stdout
    assert "the first 40 of 45 photos" in done.stdout


@pytest.mark.parametrize("source", ["made", "data/made"])
def test_a_data_set_is_ranked_by_name_or_folder(project, source):
    names = _dataset(project / "data/made", 5)
    first, again, other = (
        json.loads(_rank(source, "--order", "random", "--seed", seed, "--json").stdout)
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first["photos"] != other["photos"]
    assert sorted(row["name"] for row in first["photos"]) == names


def _run_of(root: Path) -> None:
    """What `iml run` leaves of a data set's pseudo-masks."""
    settings = params.load()
    manifest, _ = build(root, settings.prepare)
    manifests.write(PREPARED, manifest)
    teacher = settings.pseudo_label.model_copy(update={"teacher": "box"})
    label_dataset(manifest, root, teacher, PSEUDO_LABELED, root.parent / "cache")


def _boxes(root: Path) -> dict[str, list[list[float]]]:
    made = load(root)
    names = {image["id"]: image["file_name"] for image in made.images}
    return {names[row["image_id"]]: row["bbox"] for row in made.annotations}


def test_a_team_corrects_pseudo_masks_in_its_own_tool_in_the_order_of_gain(project, student_folder):
    """Out to Label Studio with masks, by gain; a box moved there; back in, nothing else changed."""
    root = project / "data/made"
    names = _dataset(root, 6)
    made = load(root)
    for image in made.images:
        image["label"] = "manipulated"
    rows = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [10 + n, 12, 30, 20]} for n in range(6)
    ]
    save(replace(made, annotations=rows))
    _run_of(root)
    before = _boxes(root)
    assert _rank("made", "--model", student_folder, "--out", "order.csv").exit_code == 0
    with open("order.csv", encoding="utf-8", newline="") as file:
        order = [row["name"] for row in csv.DictReader(file)]
    assert sorted(order) == names != order
    arguments = ["--format", "label-studio", "--masks", "--order", "order.csv", "--out", "tool"]
    done = CliRunner().invoke(app, ["export", "made", *arguments])
    assert done.exit_code == 0, done.output
    tasks = json.loads(Path("tool/tasks.json").read_text())
    assert [task["data"]["image"].rpartition("/")[2] for task in tasks] == order

    shapes = tasks[0]["annotations"][0]["result"][1:]
    assert [shape["type"] for shape in shapes] == ["polygonlabels"] or shapes[0]["value"]["rle"]
    place = {"x": 100 * 40 / 80, "y": 100 * 35 / 70, "width": 25, "height": 30, "rotation": 0}
    value = {**place, "rectanglelabels": ["manipulated"]}
    shapes[0] |= {"from_name": "box", "type": "rectanglelabels", "value": value}
    Path("tool/tasks.json").write_text(json.dumps(tasks))
    arguments = ["--into", "made", "--replace", "--no-track", "--json"]
    done = CliRunner().invoke(app, ["import", "tool", *arguments])
    assert done.exit_code == 0, done.output
    assert _boxes(root) == {**before, order[0]: [40, 35, 20, 21]}
    drawn = {row["image_id"] for row in load(root).annotations if row.get("segmentation")}
    assert len(drawn) == 5  # the pseudo-masks that nobody touched are the regions now

    for text, expected in (("name\nother.png\n", "another data set"), ("a\n1\n", "not a table")):
        Path("wrong.csv").write_text(text)
        arguments = ["--format", "coco", "--out", "x", "--order", "wrong.csv"]
        error = CliRunner().invoke(app, ["export", "made", *arguments]).exception
        assert isinstance(error, InputError)
        assert expected in error.line()


def test_annotate_shows_the_photos_in_that_order(project, student_folder, monkeypatch):
    _photos(project / "in", 5)
    shown = []

    def serve(source, into, photos, *others):
        shown.extend((photo.name, photo.reason) for photo in photos)
        raise InputError("seen")

    monkeypatch.setattr(annotate, "_serve", serve)
    app = typer.Typer()
    app.command()(annotate.annotate)
    for options in (["--order", "gain", "--model", str(student_folder)], ["--order", "random"]):
        shown.clear()
        CliRunner().invoke(app, ["in", "--into", "street", *options])
        rows = json.loads(_rank("in", *options, "--json").stdout)["photos"]
        assert shown == [(row["name"], row["reason"]) for row in rows]
        assert len(shown) == 5


def test_the_triage_page_leads_to_the_photos_that_it_shows(project, student_folder, monkeypatch):
    shown = []

    def serve(source, into, photos, *others):
        shown.extend(photo.name for photo in photos)
        raise InputError("seen")

    monkeypatch.setattr(annotate, "_serve", serve)
    app = typer.Typer()
    app.command()(annotate.annotate)
    app.command()(predict.score)
    _photos(project / "in", 6)
    save_photo(project / "in/tiny.png", np.zeros((20, 30, 3), np.uint8))
    (project / "in/broken.png").write_bytes(b"no photo")
    arguments = ["in", "--model", str(student_folder), "--out", "scored now"]
    done = CliRunner().invoke(app, ["score", *arguments])
    assert done.exit_code == 0, done.output
    page = Path("scored now/triage.html").read_text()
    cards = [html.unescape(name) for name in re.findall('data-card="(.*?)"', page)]
    assert sorted(cards[:6]) == [f"p{number}.png" for number in range(6)] != cards[:6]
    save_photo(project / "in/later.png", np.zeros((70, 80, 3), np.uint8))
    (command,) = re.findall("<code>(iml annotate .*?)</code>", page)
    CliRunner().invoke(app, shlex.split(html.unescape(command))[1:])
    assert shown == [name for name in cards if name != "broken.png"]  # which cannot be shown


def test_wrong_input_is_one_clear_error(project, student_folder):
    (project / "empty").mkdir()
    for arguments, expected in (
        (("nowhere",), "no such folder"),
        (("empty", "--model", student_folder), "no photos in it"),
        (("in", "--order", "best"), "unknown order 'best'"),
        (("in", "--order", "doubt"), "needs a labelled data set"),
        (("in", "--order", "random", "--out", "empty"), "is a folder"),
    ):
        _photos(project / "in", 1)
        error = _rank(*arguments).exception
        assert isinstance(error, InputError)
        assert expected in error.line()


def test_orders_by_a_model_import_no_torch(project, student_folder):
    _photos(project / "in", 2)
    program = (
        "import sys; from flows.cli.dataset import app; "
        f"app(['rank', 'in', '--model', {str(student_folder)!r}], standalone_mode=False); "
        "heavy = {'torch', 'timm', 'mlflow', 'prefect', 'dvc', 'great_expectations'}; "
        "found = heavy & set(sys.modules); print(found); sys.exit(bool(found))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
