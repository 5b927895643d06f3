"""The inbox on a real S3 server process: complete batches, once each, exactly as listed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from PIL import Image

from components.core.errors import InputError, UnavailableError
from components.data import dataset as datasets
from components.ingest import inbox
from components.ingest.importing import import_dataset


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A bucket of this test, and a data set `street` in the working directory."""
    monkeypatch.chdir(tmp_path)
    made = boto3.resource("s3").Bucket(f"b-{tmp_path.name.replace('_', '-')[:50]}")
    made.create()
    import_dataset(
        write(tmp_path / "first", "a.png", seed=1),
        tmp_path / "data/street",
        name="street",
        licence="CC0",
        source_name="desk",
    )
    return made


def write(folder: Path, *names: str, seed: int) -> Path:
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for name in names:
        pixels = random.integers(0, 255, (32, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    images = [
        {"id": number, "file_name": name, "width": 48, "height": 32}
        for number, name in enumerate(names)
    ]
    box = {"id": 0, "image_id": 0, "bbox": [4, 4, 20, 16], "area": 320, "category_id": 1}
    index = {
        "images": images,
        "annotations": [{**box, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "manipulated"}],
    }
    (folder / "annotations.json").write_text(json.dumps(index))
    return folder / "annotations.json"


def upload(bucket: Any, folder: Path, prefix: str) -> None:
    for path in sorted(folder.iterdir(), key=lambda path: path.suffix == ".json"):
        bucket.put_object(Key=f"{prefix}/{path.name}", Body=path.read_bytes())


def take(bucket: Any) -> dict[str, inbox.Taken]:
    box = inbox.Inbox(f"s3://{bucket.name}/in")
    waiting = box.waiting()
    return inbox.take(box, waiting, Path("data/street"), 64) if waiting else {}


def photos() -> int:
    return len(datasets.load("data/street").images)


def test_a_batch_is_taken_once_and_again_when_it_changes(bucket: Any, tmp_path: Path) -> None:
    write(tmp_path / "one", "b.png", "c.png", seed=2)
    upload(bucket, tmp_path / "one", "in/one")
    taken = take(bucket)["one"]
    assert (taken.added, taken.known, taken.rejected, taken.refused) == (2, 0, [], None)
    assert take(bucket) == {}
    assert photos() == 3
    shutil.rmtree(tmp_path / "one")
    write(tmp_path / "one", "b.png", "c.png", "d.png", seed=2)
    upload(bucket, tmp_path / "one", "in/one")
    again = take(bucket)["one"]
    assert (again.added, again.known) == (1, 2)
    assert set(json.loads(Path(inbox.RECORD).read_text())) == {"one"}


def test_a_batch_without_its_index_is_not_complete(bucket: Any) -> None:
    bucket.put_object(Key="in/half/b.png", Body=b"x")
    bucket.put_object(Key="elsewhere/one/annotations.json", Body=b"{}")
    assert take(bucket) == {}
    assert not Path(inbox.RECORD).exists()


def test_a_batch_of_any_format_is_complete_when_it_says_so(bucket: Any, tmp_path: Path) -> None:
    root = tmp_path / "pairs"
    for seed, name in enumerate(("Tp/x.png", "Au/y.png"), start=5):
        pixels = np.random.default_rng(seed).integers(0, 255, (32, 48, 3), dtype=np.uint8)
        (root / name).parent.mkdir(parents=True)
        Image.fromarray(pixels).save(root / name)
    mask = np.zeros((32, 48), np.uint8)
    mask[8:20, 8:30] = 255
    (root / "Gt").mkdir()
    Image.fromarray(mask).save(root / "Gt/x_gt.png")
    for path in root.rglob("*.png"):
        key = path.relative_to(root).as_posix()
        bucket.put_object(Key=f"in/pairs/{key}", Body=path.read_bytes())
        # Masks that are white where nothing was done: nobody is there to say so.
        body = path.read_bytes()
        if key.startswith("Gt/"):
            Image.fromarray(255 - mask).save(root / "inverted.png")
            body = (root / "inverted.png").read_bytes()
        bucket.put_object(Key=f"in/inverted/{key}", Body=body)
    assert take(bucket) == {}
    bucket.put_object(Key="in/pairs/complete", Body=b"")
    bucket.put_object(Key="in/inverted/complete", Body=b"")
    taken = take(bucket)
    assert (taken["pairs"].added, taken["pairs"].rejected) == (2, [])
    assert "1 of 1 masks are mostly white, as if inverted" in str(taken["inverted"].refused)
    assert photos() == 3
    assert take(bucket) == {}
    listed = Path("data/street/import.csv").read_text()
    assert "Tp/x.png,taken," in listed
    assert "complete" not in listed


def test_more_objects_than_a_page(bucket: Any, tmp_path: Path) -> None:
    for number in range(45):
        bucket.put_object(Key=f"in/one/extra/{number:02}.txt", Body=b"x")
    write(tmp_path / "one", "b.png", seed=2)
    upload(bucket, tmp_path / "one", "in/one")
    page = bucket.meta.client.list_objects_v2(Bucket=bucket.name)
    assert (page["IsTruncated"], page["KeyCount"]) == (True, 20)
    (batch,) = inbox.Inbox(f"s3://{bucket.name}/in").batches()
    assert len(batch.objects) == 47


def test_bad_batches_are_refused_and_the_good_one_kept(bucket: Any, tmp_path: Path) -> None:
    write(tmp_path / "good", "b.png", "c.png", seed=2)
    (tmp_path / "good/c.png").write_bytes(b"not a photo")
    upload(bucket, tmp_path / "good", "in/good")
    bucket.put_object(Key="in/bad/annotations.json", Body=b"{")
    bucket.put_object(Key="in/leaves/annotations.json", Body=b"{}")
    bucket.put_object(Key="in/leaves/../../../x.png", Body=b"x")
    taken = take(bucket)
    assert taken["good"].added == 1
    assert taken["good"].rejected[0].startswith("c.png: ")
    assert "annotations.json: not valid JSON" in str(taken["bad"].refused)
    assert "leaves" in str(taken["leaves"].refused)
    assert photos() == 2
    assert take(bucket) == {}


@pytest.mark.parametrize("keys", [["x" * 300 + ".png"], ["photos", "photos/a.png"]])
def test_keys_that_no_folder_can_hold_refuse_their_batch_alone(
    bucket: Any, tmp_path: Path, keys: list[str]
) -> None:
    for key in keys:
        bucket.put_object(Key=f"in/odd/{key}", Body=b"")
    bucket.put_object(Key="in/odd/annotations.json", Body=b"{}")
    upload(bucket, write(tmp_path / "good", "g.png", seed=9).parent, "in/sound")
    taken = take(bucket)
    assert "cannot be a file name here" in (taken["odd"].refused or "")
    assert taken["sound"].added == 1
    assert take(bucket) == {}


def test_without_a_data_set_no_batch_is_at_fault(bucket: Any, tmp_path: Path) -> None:
    upload(bucket, write(tmp_path / "good", "g.png", seed=9).parent, "in/sound")
    shutil.rmtree(tmp_path / "data/street")
    with pytest.raises(InputError, match="street"):
        take(bucket)
    assert not Path(inbox.RECORD).exists()


def test_an_object_that_changes_while_it_is_fetched_is_noticed(bucket: Any, tmp_path: Path) -> None:
    write(tmp_path / "one", "b.png", seed=2)
    upload(bucket, tmp_path / "one", "in/one")
    box = inbox.Inbox(f"s3://{bucket.name}/in")
    (batch,) = box.batches()
    bucket.put_object(Key="in/one/b.png", Body=b"changed")
    with pytest.raises(UnavailableError, match="PreconditionFailed"):
        box.fetch(batch, tmp_path / "fetched")


def test_a_batch_that_is_sent_is_complete_with_its_last_object(bucket: Any, tmp_path: Path) -> None:
    box = inbox.Inbox(f"s3://{bucket.name}/in")
    folder = write(tmp_path / "one", "b.png", seed=2).parent
    (folder / "annotations.json").rename(folder / "boxes.json")
    calls: list[None] = []

    def killed(**_: object) -> None:
        calls.append(None)
        if len(calls) == 3:
            raise KeyboardInterrupt

    events = box._client.meta.events
    events.register("before-call.s3.PutObject", killed)
    with pytest.raises(KeyboardInterrupt):
        box.send("one", folder)
    assert [row.key for row in bucket.objects.all()] == ["in/one/b.png", "in/one/boxes.json"]
    assert take(bucket) == {}
    events.unregister("before-call.s3.PutObject", killed)
    box.send("one", folder)
    assert take(bucket)["one"].added == 1


def test_an_inbox_that_is_none(bucket: Any) -> None:
    with pytest.raises(InputError, match="IML_INBOX"):
        inbox.Inbox("http://example.org/x")
    with pytest.raises(InputError, match="NoSuchBucket"):
        inbox.Inbox("s3://no-such-bucket-here/in").batches()
