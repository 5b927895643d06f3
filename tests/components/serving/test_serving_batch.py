"""Files and folders: what is found, how results are named, what is written, what is survived."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pillow_heif import register_heif_opener

from components.core.errors import InputError
from components.core.files import read_json, sha256_file
from components.core.images import open_photo, save_photo
from components.serving.batch import find, predict_files
from components.serving.origin import Origin, Student
from components.serving.predictor import Predictor

register_heif_opener()  # to write with

ORIGIN = Origin.of(Student(Path("cached"), "m", 3), "w")


def _photo(path: Path, seed: int = 0, size: tuple[int, int] = (30, 44)) -> Path:
    random = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(random.integers(0, 255, (*size, 3), dtype=np.uint8)).save(path)
    return path


def test_folders_are_walked_in_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "sub/c.png", ".hidden.png", ".cache/d.png"):
        _photo(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no photo")
    tasks = find([tmp_path / "in"], tmp_path / "out")
    assert [task.name for task in tasks] == ["a", "b", "sub/c"]


def test_names_never_collide(tmp_path: Path) -> None:
    for name in ("in/x.png", "in/x.jpg", "in/X.bmp", "in/x-2.png", "other/x.png"):
        _photo(tmp_path / name)
    paths = [tmp_path / "in", tmp_path / "other" / "x.png", tmp_path / "in" / "x.png"]
    tasks = find(paths, tmp_path / "out")
    assert len(tasks) == 5
    assert len({task.name.lower() for task in tasks}) == 5


def test_earlier_results_are_not_photos(tmp_path: Path, predictor: Predictor) -> None:
    _photo(tmp_path / "a.png")
    for out in (tmp_path, tmp_path / "results"):
        predict_files(predictor, find([tmp_path], out), out, ORIGIN)
    _photo(tmp_path / "results" / "contact_sheet.png")
    assert [task.name for task in find([tmp_path], tmp_path / "results")] == ["a"]


def test_nothing_found(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no photos"):
        find([tmp_path], tmp_path / "out")


def test_three_files_a_photo(tmp_path: Path, predictor: Predictor) -> None:
    path = _photo(tmp_path / "in" / "sub" / "p.png")
    steps: list[tuple[int, int]] = []
    (outcome,) = predict_files(
        predictor,
        find([tmp_path / "in"], tmp_path / "out"),
        tmp_path / "out",
        ORIGIN,
        progress=lambda *step: steps.append(step),
    )
    (expected,) = predictor.predict([open_photo(path)])
    folder = tmp_path / "out" / "sub"
    mask = np.asarray(Image.open(folder / "p.mask.png"))
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, np.rint(expected.probability * 255).astype(np.uint8))
    assert Image.open(folder / "p.overlay.png").size == (44, 30)
    assert read_json(folder / "p.json") == {
        "photo": str(path),
        "score": pytest.approx(expected.score, abs=1e-6),
        "area": pytest.approx(expected.area, abs=1e-6),
        "width": 44,
        "height": 30,
        "sha256": sha256_file(path),
        "unsuitable": "too small (44x30)",
        "report": None,
        "threshold": 0.5,
        "model": "m",
        "version": 3,
        "weights_sha256": "w",
        "made_at": ORIGIN.made_at,
        "program": ORIGIN.program,
    }
    assert outcome.error is None
    assert steps == [(1, 1)]
    assert sorted(file.name for file in folder.iterdir()) == [
        "p.json",
        "p.mask.png",
        "p.overlay.png",
    ]


def test_suitable_photos_have_no_reason(tmp_path: Path, predictor: Predictor) -> None:
    good = _photo(tmp_path / "good.png", size=(64, 80))
    save_photo(tmp_path / "black.png", np.zeros((64, 80, 3), dtype=np.uint8))
    Image.open(good).save(tmp_path / "poor.jpg", quality=10)
    outcomes = predict_files(predictor, find([tmp_path], tmp_path / "o"), tmp_path / "o", ORIGIN)
    reasons = {outcome.name: outcome.unsuitable for outcome in outcomes}
    assert reasons["good"] is None
    assert reasons["black"] == "featureless (all pixels are equal)"
    assert (reasons["poor"] or "").startswith("recompressed too strongly")
    for outcome in outcomes:  # the answer is given all the same
        assert outcome.score is not None
        record = read_json(tmp_path / "o" / f"{outcome.name}.json")
        assert record["unsuitable"] == outcome.unsuitable


def test_of_an_answer_that_is_nan_nothing_is_written(tmp_path: Path, broken_folder: Path) -> None:
    for number in range(3):
        _photo(tmp_path / "in" / f"{number}.png", number)
    out = tmp_path / "out"
    with pytest.raises(InputError, match="the model's answer is unusable"):
        predict_files(Predictor(broken_folder), find([tmp_path / "in"], out), out, ORIGIN)
    assert not list(tmp_path.glob("out/**/*"))


def test_photos_of_formats_that_are_not_read_are_named(
    tmp_path: Path, predictor: Predictor
) -> None:
    _photo(tmp_path / "a.png")
    _photo(tmp_path / "b.heif")
    for name in ("a.NEF", "c.gif"):
        _photo(tmp_path / "a.png").rename(tmp_path / name)
    _photo(tmp_path / "a.png")
    outcomes = predict_files(predictor, find([tmp_path], tmp_path / "o"), tmp_path / "o", ORIGIN)
    errors = {Path(outcome.photo).name: outcome.error for outcome in outcomes}
    assert list(errors) == ["a.NEF", "a.png", "b.heif", "c.gif"]
    assert errors["a.png"] is errors["b.heif"] is None
    assert (errors["a.NEF"] or "").startswith("NEF files are not read, only JPEG, PNG")
    assert (errors["c.gif"] or "").startswith("GIF files are not read")


def test_bad_photos_do_not_stop_the_good(tmp_path: Path, predictor: Predictor) -> None:
    good = [_photo(tmp_path / f"g{n:02}.png", n) for n in range(20)]
    bad = {
        "text.png": b"this is text",
        "zero.jpg": b"",
        "cut.png": good[0].read_bytes()[:200],
    }
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
    tasks = find([tmp_path, tmp_path / "gone.jpg"], tmp_path / "out")
    outcomes = predict_files(predictor, tasks, tmp_path / "out", ORIGIN)
    failed = {Path(outcome.photo).name: outcome.error for outcome in outcomes if outcome.error}
    assert set(failed) == {*bad, "gone.jpg"}
    assert all(failed.values())
    assert "no such file" in failed["gone.jpg"]
    written = {path.name for path in (tmp_path / "out").glob("*.json")}
    assert written == {f"g{n:02}.json" for n in range(20)}


def test_too_large_a_photo_is_refused_by_its_header(tmp_path: Path, predictor: Predictor) -> None:
    _photo(tmp_path / "big.png", size=(200, 200))
    (outcome,) = predict_files(
        predictor, find([tmp_path], tmp_path / "o"), tmp_path / "o", ORIGIN, max_megapixels=0.03
    )
    assert "megapixels" in (outcome.error or "")


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "CMYK", "I;16"])
def test_photos_of_every_mode(tmp_path: Path, predictor: Predictor, mode: str) -> None:
    grey = Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100)
    image = grey if mode == "I;16" else Image.new("RGB", (30, 20), (200, 30, 90)).convert(mode)
    image.save(tmp_path / "p.tif")
    (outcome,) = predict_files(predictor, find([tmp_path], tmp_path / "o"), tmp_path / "o", ORIGIN)
    assert (outcome.error, outcome.width, outcome.height) == (None, 30, 20)


def test_one_pixel(tmp_path: Path, predictor: Predictor) -> None:
    save_photo(tmp_path / "p.png", np.full((1, 1, 3), 9, dtype=np.uint8))
    (outcome,) = predict_files(predictor, find([tmp_path], tmp_path / "o"), tmp_path / "o", ORIGIN)
    assert outcome.error is None
    assert outcome.area in (0, 1)


def test_names_that_results_cannot_bear(tmp_path: Path, predictor: Predictor) -> None:
    """Too long for a suffix, or not UTF-8: both are names of files."""
    folder = tmp_path / "in"
    for first in "ab":
        _photo(folder / f"{first}.png").rename(folder / f"{first * 10}{'写' * 80}.png")
    _photo(folder / "c.png").rename(folder / os.fsdecode(b"caf\xe9.png"))
    out = tmp_path / "out"
    outcomes = predict_files(predictor, find([folder], out), out, ORIGIN)
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert len(list(out.iterdir())) == 9
    for outcome in outcomes:
        assert read_json(out / f"{outcome.name}.json")["photo"] == outcome.photo
    assert outcomes[2].photo.endswith("caf\\udce9.png")
