"""A version made from two data sets and a pool: what is run again, recorded, audited and found."""

from __future__ import annotations

import shutil
from pathlib import Path

import lineage_support as support
import numpy as np
import pytest
import yaml

from components import workspace
from components.core.images import save_photo
from components.data import manifest
from components.ingest.importing import import_dataset
from components.lineage import photos
from components.lineage.audit import audit
from components.lineage.collect import collect
from components.lineage.difference import explain
from components.lineage.verdict import Verdict

TWO = f"{support.MODEL}/2"
SETS = ["made", "more", "archive"]


def _import(root: Path, name: str, licence: str, *, authentic: bool = False) -> None:
    import_dataset(
        root / f".state/{name}", Path("data", name),
        name=name, licence=licence, source_name=name, authentic=authentic,
    )  # fmt: skip
    workspace.dvc_add(Path("data", name))


def _noise(path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    save_photo(path, random.integers(0, 255, (48, 64, 3), dtype=np.uint8))


def _set(root: Path, **blocks: dict) -> None:
    values = yaml.safe_load((root / "params.yaml").read_text())
    for name, block in blocks.items():
        values[name] |= block
    (root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 of one data set; version 2 of two with a pool, one of whose photos is left out."""
    root = tmp_path_factory.mktemp("team")
    support.lay_out(root, support.SMALL)
    support.make_photos(root / ".state/made")
    support.make_photos(root / ".state/more", first=50)
    for number in range(6):
        _noise(root / f".state/archive/{number}.png", 900 + number)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("IML_STATE", str(root / ".state"))
        _import(root, "made", "CC0-1.0")
        support.commit(root, "data")
        support.run_stages()
        support.commit(root, "dvc.lock")
        assert support.register(root) == 1
        tested = manifest.read("runs/prepare").select("test", "authentic").images["path"]
        shutil.copy(Path("data", tested.iloc[0]), root / ".state/archive/like.png")
        _import(root, "more", "CC-BY-4.0")
        _import(root, "archive", "agency contract 7", authentic=True)
        _set(root, prepare={"datasets": SETS}, distill={"pool": ["archive"], "pool_share": 0.5})
        _set(root, evaluate={"datasets": ["made", "more"]})
        again = workspace.changed(SETS)
        assert "index@made" not in again
        assert {"index@more", "index@archive", "prepare"} <= again.keys()
        support.commit(root, "more data")
        support.run_stages()
        support.commit(root, "dvc.lock")
        assert support.register(root) == 2
    return root


@pytest.fixture
def inside(team: Path, standing: support.Standing) -> Path:
    standing(team)
    return team


def test_every_data_set_is_recorded_and_audited(inside: Path) -> None:
    with collect(TWO) as evidence:
        answer = audit(evidence, deep=True)
        assert answer.verdict == Verdict.VERIFIED, answer.sentence()
        assert (evidence.datasets, evidence.gate_dataset) == (SETS, "made")
        licences = {name: told["licence"] for name, told in evidence.record["datasets"].items()}
        rows = photos.rows(evidence)
    assert licences == {
        "made": "CC0-1.0",
        "more": "CC-BY-4.0",
        "archive": "agency contract 7",
    }
    of = {name: [row for row in rows if row["dataset"] == name] for name in SETS}
    assert {name: len(found) for name, found in of.items()} == {
        "made": 20,
        "more": 20,
        "archive": 6,
    }
    assert {row["role"] for row in of["archive"]} == {"trained on, without annotation"}
    assert all(row["path"].startswith("archive/photos/") for row in of["archive"])
    assert all(row["image_id"].startswith("more/") for row in of["more"])
    summary = yaml.safe_load(Path("runs/prepare/summary.json").read_text())
    assert (summary["pool"], summary["left_out"]) == (6, 1)
    assert "archive/like.png" in Path("runs/prepare/quarantine.csv").read_text()
    told = yaml.safe_load(Path("runs/distill/summary.json").read_text())
    assert told["pool"] == 6
    assert told["train_authentic"] + told["train_manipulated"] < 40


def test_what_a_data_set_adds_is_told_and_the_first_one_stays(inside: Path) -> None:
    with collect(f"{support.MODEL}/1") as one, collect(TWO) as two:
        changes = explain(one, two)
        before, after = photos.tables(one).images, photos.tables(two).images
    assert changes["data"][0].startswith("26 photos added: ")
    assert len(changes["data"]) == 2, changes["data"]
    assert "2 data sets added: archive, more." in changes["data"]
    columns = ["image_id", "path", "sha256", "split", "group"]
    kept = after[after["dataset"] == "made"].reset_index(drop=True)
    assert kept[columns].equals(before[columns])
    assert any("prepare.datasets" in line for line in changes["parameters"])


@pytest.mark.parametrize(
    ("photo", "path", "split"),
    [
        ("data/archive/photos/3.png", "archive/photos/3.png", "pool"),
        ("data/more/photos/Tp/Tp52.png", "more/photos/Tp/Tp52.png", None),
    ],
)
def test_a_photo_of_any_data_set_is_found(
    photo: str, path: str, split: str | None, inside: Path
) -> None:
    assert Path(photo).is_file()
    found = photos.uses(support.MODEL, photo)
    assert not found.unknown
    assert [(use.version, use.path) for use in found.found] == [(2, path)]
    assert split in (None, found.found[0].split)


def test_a_changed_photo_of_the_pool_breaks_the_audit(
    team: Path, tmp_path: Path, standing: support.Standing
) -> None:
    root = support.copy(team, tmp_path / "copy")
    standing(root)
    with collect(TWO) as evidence:
        md5 = evidence.data_files()["archive/photos/3.png"]
    stored = root / ".state/dvc-remote/files/md5" / md5[:2] / md5[2:]
    stored.chmod(0o644)
    stored.write_bytes(stored.read_bytes() + b"x")
    with collect(TWO) as evidence:
        answer = audit(evidence, deep=True)
    (broken,) = answer.of(Verdict.BROKEN)
    assert (broken.where, broken.link) == ("data/archive/photos/3.png", "data")


def test_a_data_set_taken_out_of_the_list_counts_no_more(
    team: Path, tmp_path: Path, standing: support.Standing
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(team, root, ignore=shutil.ignore_patterns("dvc-remote"), symlinks=True)
    standing(root)
    _set(root, prepare={"datasets": ["made"]}, distill={"pool": []})
    _set(root, evaluate={"datasets": ["made"]})
    lines: list[str] = []
    assert not workspace.reproduce("index@made", lines.append)
    assert workspace.reproduce("prepare", lines.append)
    assert set(manifest.read("runs/prepare").images["dataset"]) == {"made"}
    assert [path.name for path in Path("runs/index").iterdir()] == ["made"]
    assert not workspace.reproduce("prepare", lines.append)
