"""Batch scoring of folders and of a real S3 server: resumed, abstaining, sorted."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from pathlib import Path

import boto3
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from components.core import crew, images, stream
from components.core.errors import InputError
from components.core.files import atomic, read_json, write_json
from components.core.jpeg import jpeg_quality
from components.serving import drift, triage
from components.serving import score as scoring
from components.serving import table as tables
from components.serving.inference import Limits
from components.serving.origin import Origin, Student, program
from components.serving.own_code import OwnCode
from components.serving.predictor import Predictor
from components.serving.score import Summary, score
from components.serving.sources import Item, Selection, Source, open_source
from components.serving.triage import overlay

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


def run(source: Source, predictor: Predictor, out: Path, **selected: object) -> Summary:
    chosen = Selection(**selected)
    made = origin(predictor)
    return score(lambda: source, predictor, out, "desk <b>", made, LIMITS, chosen)


def tree(out: Path) -> dict[str, bytes]:
    """All results but the page, which says when they were made."""
    files = [path for path in out.rglob("*") if path.is_file() and path.parent != out]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def table(out: Path) -> pd.DataFrame:
    """As anybody reads it: by name."""
    rows = pd.read_parquet(out / "scores.parquet")
    assert list(rows["name"]) == sorted(rows["name"])
    return rows.set_index("name", drop=False)


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
    assert len(scored) == 6
    best = scored.sort_values("score", ascending=False)["name"].iloc[0]
    photo = images.open_photo(photos / "3.jpg")
    (found,) = predictor.predict([photo])
    assert rows.loc["3.jpg", "score"] == pytest.approx(found.score, abs=1e-4)
    assert {f"overlays/{path.name}" for path in (out / "overlays").iterdir()} == {
        overlay(name) for name in scored["name"]
    }
    for name in scored["name"]:
        assert images.open_photo(out / overlay(name)).shape == (64, 96, 3)
    page = (out / "triage.html").read_text()
    assert "a&amp;b &lt;i&gt;" in page
    assert "desk &lt;b&gt;" in page
    assert "96x64, " in page
    first = f'data-card="{best.replace("&", "&amp;").replace("<", "&lt;")}'
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

    def items(self) -> Iterator[Item]:
        return self._source.items()

    def item(self, name: str) -> Item:
        return self._source.item(name)

    def read(self, item: Item) -> bytes:
        self.read_names.append(item.name)
        if self._dies_at is not None and len(self.read_names) > self._dies_at:
            raise KeyboardInterrupt
        return self._source.read(item)


def test_an_interrupted_run_goes_on_and_ends_the_same(
    photos: Path, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "LEAST", 2)
    monkeypatch.setattr(crew, "_FEW", 99)  # in this process, where what is read is counted
    monkeypatch.setattr(stream, "workers", lambda: 1)
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(open_source(str(photos), whole), predictor, whole)
    with pytest.raises(KeyboardInterrupt):
        run(_Counting(photos, out, dies_at=8), predictor, out)
    kept = {
        row["name"]
        for p in (out / "scores.parquet").iterdir()
        for row in pd.read_parquet(p).to_dict("records")
    }
    assert kept
    rest = _Counting(photos, out)
    summary = run(rest, predictor, out)
    assert not set(rest.read_names) & (kept - {"broken.jpg"})
    assert (summary.scored, summary.abstained, summary.failed) == (6, 2, 1)
    assert tree(out) == tree(whole)


def test_what_a_kill_left_half_written_is_no_part(
    photos: Path, predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(open_source(str(photos), out), predictor, out)
    with suppress(RuntimeError), atomic(out / "scores.parquet/0000002-0.parquet"):
        (left,) = (out / "scores.parquet").glob(".*")
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
    opened = lambda: source, predictor
    with pytest.raises(InputError, match="another source, model, limits or selection"):
        run(source, predictor, out, sample=3)
    with pytest.raises(InputError, match="another source, model, limits or selection"):
        score(*opened, out, "desk <b>", Origin.of(STUDENT, "other"), LIMITS)
    with pytest.raises(InputError, match="another source, model, limits or selection"):
        score(*opened, out, "desk <b>", origin(predictor), Limits())
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
        next(open_source("s3://other/in", out).items())


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


KEYS = [
    "plain.jpg",
    "with space.jpg",
    "plus+and%20percent.jpg",
    "%2Fnot-a-folder.jpg",
    "/double.jpg",
    "a//b.jpg",
    "a/ü😀.JPG",
    "a-b.jpg",
    "a.jpg",
    "q?x=1&y=#z.jpg",
]


def test_keys_of_any_form_are_scored_once_each(
    bucket, predictor: Predictor, tmp_path: Path
) -> None:
    for number, key in enumerate(KEYS):
        bucket.put_object(Bucket="desk", Key=f"odd/{key}", Body=jpeg(number))
    for marker in ("odd/", "odd/a/", "odd/folder.jpg/"):
        bucket.put_object(Bucket="desk", Key=marker, Body=b"")
    for number in range(25):  # more than a page of the list
        bucket.put_object(Bucket="desk", Key=f"odd/many/{number}.jpg", Body=jpeg(number))
    out = tmp_path / "out"
    source = open_source("s3://desk/odd", out)
    assert run(source, predictor, out) == Summary(35, 0, 0, 35)
    names = [*KEYS, *(f"many/{number}.jpg" for number in range(25))]
    assert sorted(names) == list(table(out).index)
    assert [source.item(name).place for name in names] == [f"odd/{name}" for name in names]


def test_a_folder_is_listed_in_the_order_of_its_paths(tmp_path: Path) -> None:
    for name in (
        "a/x.jpg",
        "a-b.jpg",
        "a.jpg",
        "b/c/d.jpg",
        "b/c.jpg",
        "a/.hidden.jpg",
        ".h/z.jpg",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    names = [item.name for item in open_source(str(tmp_path), tmp_path / "out").items()]
    assert names == sorted(names) == ["a-b.jpg", "a.jpg", "a/x.jpg", "b/c.jpg", "b/c/d.jpg"]


def test_only_photos_since_a_time_or_a_sample_of_them(
    photos: Path, predictor: Predictor, tmp_path: Path
) -> None:
    for number in range(5):
        os.utime(photos / f"{number}.jpg", (1e9, 1e9 + number))  # September 2001
    since = datetime(2001, 9, 9, 1, 46, 42)  # 1e9 + 2, in UTC
    out = tmp_path / "since"
    source = open_source(str(photos), out)
    assert run(source, predictor, out, since=since).new == 7
    assert {"2.jpg", "3.jpg", "4.jpg"} < set(table(out).index)
    assert "1.jpg" not in table(out).index
    assert read_json(out / "score.json")["since"] == "2001-09-09T01:46:42"
    drawn = [Selection(sample=4, seed=seed).of(source.items()) for seed in (1, 1, 2)]
    names = [[item.name for item in some] for some in drawn]
    assert names[0] == names[1] == sorted(names[0])
    assert names[0] != names[2]
    assert len(names[0]) == 4
    # One photo more changes one of a sample at most.
    more = [*source.items(), Item("zz.jpg", "m", 1, "zz.jpg")]
    assert len(set(names[0]) - {item.name for item in Selection(sample=4, seed=1).of(more)}) <= 1


def test_every_photo_of_a_sample_is_as_likely() -> None:
    items = [Item(f"{number}.jpg", "", 0, "") for number in range(40)]
    counts = Counter(
        item.name for seed in range(400) for item in Selection(sample=10, seed=seed).of(items)
    )
    assert len(counts) == 40
    # 400 draws with a chance of 1/4 have a standard deviation of 8.7; this is 5 of them.
    assert all(56 < count < 144 for count in counts.values())


def test_overlays_are_kept_of_shown_photos_alone(
    photos: Path, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triage, "SHOWN", 2)
    out = tmp_path / "out"
    run(open_source(str(photos), out), predictor, out)

    def shown() -> list[str]:
        best = table(out).sort_values("score", ascending=False)["name"][:2]
        kept = sorted(f"overlays/{path.name}" for path in (out / "overlays").iterdir())
        assert kept == sorted(overlay(name) for name in best)
        return list(best)

    first = shown()
    (photos / first[0]).unlink()  # another photo is shown, whose overlay was not kept
    assert run(open_source(str(photos), out), predictor, out).new == 1  # the broken one
    assert shown()[0] == first[1]


def test_results_of_one_table_are_gone_on_with(
    photos: Path, predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(open_source(str(photos), out), predictor, out)
    good = tree(out)
    # As an earlier program wrote them: parts in the order of scoring, and one table by score.
    rows = table(out).assign(overlay=[overlay(name) for name in table(out).index])
    shutil.rmtree(out / "scores.parquet")
    (out / "parts").mkdir()
    rows[::-1][:5].to_parquet(out / "parts/000001.parquet", index=False)
    rows[::-1][5:].to_parquet(out / "parts/000002.parquet", index=False)
    by_score = rows.sort_values("score", ascending=False)
    by_score.to_parquet(out / "scores.parquet", index=False)
    old = drift.read(out / "scores.parquet").sort_values("score", ignore_index=True)
    again = _Counting(photos, out)
    assert run(again, predictor, out).new == 1
    assert again.read_names == ["broken.jpg"]
    assert tree(out) == good
    assert not (out / "parts").exists()
    for place in (out, out / "scores.parquet"):
        new = drift.read(place).sort_values("score", ignore_index=True)
        pd.testing.assert_frame_equal(old, new)


def test_the_index_says_what_the_table_has(
    photos: Path, predictor: Predictor, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(open_source(str(photos), out), predictor, out)
    index = read_json(out / "scores.parquet/_index.json")
    (part,) = index["parts"]
    assert (index["schema"], index["rows"], part["rows"]) == (2, 9, 9)
    assert index["status"] == {"scored": 6, "abstained": 2, "failed": 1}
    assert (part["first"], part["last"]) == ("0.jpg", "tiny.jpg")
    write_json(out / "scores.parquet/_index.json", index | {"schema": 3})
    with pytest.raises(InputError, match="a table of schema 3, this program reads up to 2"):
        tables.read(out / "scores.parquet", "name")


KILLED = """
import os, sys
os.sched_getaffinity = lambda _: {0, 1}
from pathlib import Path
from components.serving import score
from components.serving.inference import Limits
from components.serving.origin import Student
student = Student(Path(sys.argv[1]), "m", 1)
print(score.run(student, sys.argv[2], Path(sys.argv[3]), limits=Limits(32, 30))[1].new, flush=True)
"""


def test_a_killed_run_scores_each_photo_once(
    student_folder: Path, tmp_path: Path, campaigns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, kills = (1000, 3) if campaigns else (200, 1)
    photos, whole, cut = (tmp_path / name for name in ("photos", "whole", "cut"))
    photos.mkdir()
    for number in range(count):
        (photos / f"{number:04}.jpg").write_bytes(jpeg(number, size=(70, 66)))

    def start(out: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", KILLED, str(student_folder), str(photos), str(out)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ)

    def parts() -> int:
        return len(list((cut / "scores.parquet").glob("[0-9]*")))

    monkeypatch.setattr(crew, "_FEW", 10**9)  # in this process
    student = Student(student_folder, "m", 1)
    assert scoring.run(student, str(photos), whole, limits=LIMITS)[1].new == count
    for _ in range(kills):
        process, before = start(cut), parts()
        while parts() < before + 2:
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
        process.wait()
    kept = sum(len(pd.read_parquet(path)) for path in (cut / "scores.parquet").glob("[0-9]*"))
    assert 2 * kills * tables.LEAST <= kept < count
    assert int(start(cut).communicate(timeout=300)[0]) == count - kept
    assert tree(cut) == tree(whole)
    assert table(cut)["name"].is_unique


def test_a_version_s_own_code_does_not_travel(student_folder: Path) -> None:
    own = OwnCode.__new__(OwnCode)
    own._folder = student_folder
    with pytest.raises(InputError, match=r"runs on this machine only; unset RAY_ADDRESS"):
        pickle.dumps(own)


def test_a_node_that_cannot_reach_the_source_says_so(
    s3: str, predictor: Predictor, tmp_path: Path
) -> None:
    source = partial(open_source, "s3://nowhere/in", tmp_path)
    with pytest.raises(InputError, match="s3://nowhere/in: cannot be listed"):
        scoring.Scorer(source, predictor, LIMITS).identity()
