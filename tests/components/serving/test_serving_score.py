"""Batch scoring of folders and of a real S3 server: resumed, abstaining, sorted."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import boto3
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from components.core import images, stream
from components.core.errors import InputError
from components.core.files import atomic, read_json, write_json
from components.core.jpeg import jpeg_quality
from components.serving import score as scoring
from components.serving.inference import Limits
from components.serving.origin import Origin, Student, program
from components.serving.predictor import Predictor
from components.serving.score import Summary, score
from components.serving.sources import Item, Source, open_source

LIMITS = Limits(side=32, quality=30)
STUDENT = Student(Path("cached"), "m", 1)


def origin(predictor: Predictor) -> Origin:
    return Origin.of(STUDENT, predictor.weights_sha256)


def jpeg(seed: int, quality: int = 90, size: tuple[int, int] = (96, 64)) -> bytes:
    random = np.random.default_rng(seed)
    small = random.integers(0, 255, (8, 8, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(small).resize(size).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number in range(5):
        (folder / f"{number}.jpg").write_bytes(jpeg(number))
    (folder / "sub/a&b <i>.jpg").write_bytes(jpeg(7))
    (folder / "tiny.jpg").write_bytes(jpeg(8, size=(90, 20)))
    (folder / "crushed.jpg").write_bytes(jpeg(9, quality=10))
    (folder / "broken.jpg").write_bytes(jpeg(10)[:200])
    (folder / "notes.txt").write_text("no photo")
    return folder


def run(source: Source, predictor: Predictor, out: Path) -> Summary:
    return score(source, predictor, out, "desk <b>", origin(predictor), LIMITS)


def table(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "scores.parquet").set_index("name", drop=False)


def test_a_folder_is_scored_and_unsuitable_photos_are_told(
    photos: Path, predictor: Predictor, tmp_path: Path
) -> None:
    out = photos / "results"  # within the source: not scored itself
    assert run(open_source(str(photos), out), predictor, out) == Summary(6, 2, 1, 9)
    rows = table(out)
    assert rows.loc["tiny.jpg", "reason"] == "too small (90x20)"
    assert rows.loc["crushed.jpg", "reason"].startswith("recompressed too strongly")
    assert rows.loc["broken.jpg", "status"] == "failed"
    scored = rows[rows["status"] == "scored"]
    assert scored["score"].is_monotonic_decreasing
    assert list(rows["status"][:6]) == ["scored"] * 6
    photo = images.open_photo(photos / "3.jpg")
    (found,) = predictor.predict([photo])
    assert rows.loc["3.jpg", "score"] == pytest.approx(found.score, abs=1e-4)
    for picture in scored["overlay"]:
        assert images.open_photo(out / picture).shape == (64, 96, 3)
    page = (out / "triage.html").read_text()
    assert "a&amp;b &lt;i&gt;" in page
    assert "desk &lt;b&gt;" in page
    assert "96x64, " in page
    first = f'data-card="{scored["name"].iloc[0].replace("&", "&amp;").replace("<", "&lt;")}'
    assert page.index(first) < page.index("too small (90x20)")
    assert f"<dd>{predictor.weights_sha256}</dd>" in page


def test_photos_of_formats_that_are_not_read_are_named(
    photos: Path, predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (photos / "sub/raw.CR3").write_bytes(jpeg(3))
    assert run(open_source(str(photos), out), predictor, out) == Summary(6, 2, 2, 10)
    row = table(out).loc["sub/raw.CR3"]
    assert row["status"] == "failed"
    assert row["reason"].startswith("CR3 files are not read, only JPEG")
    assert "CR3 files are not read" in (out / "triage.html").read_text()


def test_a_plain_photo_is_abstained_from(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    images.save_photo(tmp_path / "in/black.png", np.zeros((64, 96, 3), dtype=np.uint8))
    out = tmp_path / "out"
    assert run(open_source(str(tmp_path / "in"), out), predictor, out) == Summary(0, 1, 0, 1)
    assert table(out).loc["black.png", "reason"] == "featureless (all pixels are equal)"


class _Counting:
    """A folder that notes what is read, and dies on command."""

    def __init__(self, folder: Path, out: Path, dies_at: int | None = None) -> None:
        self._source, self.read_names, self._dies_at = open_source(str(folder), out), [], dies_at

    def items(self) -> list[Item]:
        return self._source.items()

    def read(self, item: Item) -> bytes:
        self.read_names.append(item.name)
        if self._dies_at is not None and len(self.read_names) > self._dies_at:
            raise KeyboardInterrupt
        return self._source.read(item)


def test_an_interrupted_run_goes_on_and_ends_the_same(
    photos: Path, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_PART", 2)
    monkeypatch.setattr(stream, "BATCH", 1)
    monkeypatch.setattr(stream, "workers", lambda: 1)
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(open_source(str(photos), whole), predictor, whole)
    with pytest.raises(KeyboardInterrupt):
        run(_Counting(photos, out, dies_at=8), predictor, out)
    kept = {
        row["name"]
        for p in (out / "parts").iterdir()
        for row in pd.read_parquet(p).to_dict("records")
    }
    assert kept
    rest = _Counting(photos, out)
    summary = run(rest, predictor, out)
    assert not set(rest.read_names) & (kept - {"broken.jpg"})
    assert (summary.scored, summary.abstained, summary.failed) == (6, 2, 1)
    columns = ["name", "status", "reason", "sha256", "overlay"]
    pd.testing.assert_frame_equal(
        table(out)[columns].sort_index(), table(whole)[columns].sort_index()
    )
    np.testing.assert_allclose(
        table(out)["score"].sort_index(), table(whole)["score"].sort_index(), atol=1e-5
    )


def test_what_a_kill_left_half_written_is_no_part(
    photos: Path, predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(open_source(str(photos), out), predictor, out)
    with suppress(RuntimeError), atomic(out / "parts/000002.parquet"):
        (left,) = (out / "parts").glob(".*")
        raise RuntimeError
    left.touch()
    assert run(open_source(str(photos), out), predictor, out) == Summary(6, 2, 1, 1)


def test_names_that_are_not_utf8_and_links_to_nothing(predictor: Predictor, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(jpeg(1))
    (folder / "gone.jpg").symlink_to("nowhere")
    out = tmp_path / "out"
    assert run(open_source(str(folder), out), predictor, out) == Summary(1, 0, 1, 2)
    assert table(out).loc["caf\\udce9.jpg", "status"] == "scored"
    assert table(out).loc["gone.jpg", "reason"] == "no such file"


@pytest.mark.parametrize(
    ("name", "value"), [("AWS_ENDPOINT_URL", "localhost:9000"), ("AWS_PROFILE", "nobody")]
)
def test_wrong_settings_of_s3_are_one_line(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=r"s3://desk/in: S3 cannot be used .*; check AWS_"):
        open_source("s3://desk/in", tmp_path)


def test_only_what_changed_is_scored_again(
    photos: Path, predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(open_source(str(photos), out), predictor, out)
    (photos / "0.jpg").write_bytes(jpeg(99))
    (photos / "1.jpg").unlink()
    again = _Counting(photos, out)
    assert run(again, predictor, out) == Summary(5, 2, 1, 2)
    assert sorted(again.read_names) == ["0.jpg", "broken.jpg"]
    assert "1.jpg" not in table(out).index


def test_results_of_something_else_are_left_alone(
    photos: Path, predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    source = open_source(str(photos), out)
    run(source, predictor, out)
    with pytest.raises(InputError, match="another source, model or limits"):
        score(source, predictor, out, "desk <b>", Origin.of(STUDENT, "other"), LIMITS)
    with pytest.raises(InputError, match="another source, model or limits"):
        score(source, predictor, out, "desk <b>", origin(predictor), Limits())
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no photos"):
        run(open_source(str(tmp_path / "empty"), out), predictor, tmp_path / "other")
    for wrong in ("s3://", str(tmp_path / "none")):
        with pytest.raises(InputError):
            open_source(wrong, out)


@pytest.mark.parametrize("quality", [5, 10, 25, 50, 75, 90, 100])
def test_jpeg_quality_is_read_from_its_tables(quality: int) -> None:
    found = jpeg_quality(jpeg(1, quality))
    assert found == pytest.approx(quality, abs=1.5)


def test_other_formats_have_no_jpeg_quality() -> None:
    buffer = BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    assert jpeg_quality(buffer.getvalue()) is None


@pytest.fixture
def bucket(s3: str) -> object:
    """boto3's client of a real S3 server with the bucket `desk`."""
    client = boto3.client("s3")
    client.create_bucket(Bucket="desk")
    return client


def test_an_s3_prefix_is_scored(bucket, photos: Path, predictor: Predictor, tmp_path: Path) -> None:
    for path in sorted(photos.rglob("*.*")):
        bucket.upload_file(str(path), "desk", f"in/{path.relative_to(photos)}")
    bucket.upload_file(str(photos / "0.jpg"), "desk", "inside-another-prefix.jpg")
    out, local = tmp_path / "out", tmp_path / "local"
    source = open_source("s3://desk/in", out)
    assert run(source, predictor, out) == Summary(6, 2, 1, 9)
    run(open_source(str(photos), local), predictor, local)
    assert table(out)["sha256"].sort_index().equals(table(local)["sha256"].sort_index())
    bucket.upload_file(str(photos / "1.jpg"), "desk", "in/0.jpg")  # another ETag
    assert run(source, predictor, out).new == 2  # that one, and the broken one again
    bucket.delete_object(Bucket="desk", Key="in/2.jpg")
    gone = Item("2.jpg", "x", 10, "2.jpg")
    with pytest.raises(images.PhotoError, match="cannot be fetched"):
        source.read(gone)
    with pytest.raises(images.PhotoError, match="NEF files are not read"):
        source.read(Item("4.nef", "x", 2**30, "4.nef"))
    with pytest.raises(images.PhotoError, match="too large"):
        source.read(Item("3.jpg", "x", 2**30, "3.jpg"))
    with pytest.raises(InputError, match="cannot be listed"):
        open_source("s3://other/in", out).items()


def test_results_say_what_gave_them_and_older_ones_are_gone_on_with(
    photos: Path, predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(open_source(str(photos), out), predictor, out)
    said = read_json(out / "score.json")
    assert (said["model"], said["version"], said["source"]) == ("m", 1, "desk <b>")
    assert said["weights_sha256"] == predictor.weights_sha256
    assert said["program"] == program()
    made = datetime.fromisoformat(said["made_at"])
    assert abs((datetime.now(UTC) - made).total_seconds()) < 600

    # As an earlier program wrote it.
    older = {key: said[key] for key in ("source", "weights_sha256", "limits")}
    write_json(out / "score.json", {**older, "model": "m@champion"})
    assert run(open_source(str(photos), out), predictor, out).new == 1  # the broken photo again
    assert read_json(out / "score.json")["version"] == 1
