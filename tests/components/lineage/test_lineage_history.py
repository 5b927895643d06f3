"""Photos of versions, what changed between two, events, and making a version again."""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import corruptions_history
import lineage_support as support
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openlineage_schemas import problems
from PIL import Image
from safetensors.numpy import save as save_tensors

from components import workspace
from components.core.errors import CheckError, InputError, UnavailableError
from components.core.files import sha256_file
from components.lineage import difference, events, photos
from components.lineage.audit import CHECKS
from components.lineage.collect import collect
from components.lineage.difference import explain
from components.lineage.evidence import Evidence
from components.lineage.outputs import Match, compare
from components.lineage.replay import prepare, replay

ONE, TWO = f"{support.MODEL}/1", f"{support.MODEL}/2"
Stand = Callable[[Path], None]


def test_photos_and_boxes_of_a_version(project: Path, standing: Stand) -> None:
    standing(project)
    with collect(ONE, whole=False) as evidence:
        rows = photos.rows(evidence)
    assert len(rows) == 20
    assert {row["role"] for row in rows} == {"trained on", "chose the checkpoint", "scored on"}
    manipulated = [row for row in rows if row["label"] == "manipulated"]
    assert all(len(row["boxes"]) == 1 for row in manipulated)
    x0, y0, x1, y1 = manipulated[0]["boxes"][0]
    # Drawn round the mask (10, 8) to (34, 28), loosened by at most a tenth a side.
    assert abs(x0 - 10) <= 3
    assert abs(y1 - 28) <= 3
    assert x1 > x0
    assert y1 > y0


def test_versions_of_a_photo(project: Path, standing: Stand) -> None:
    standing(project)
    kept = project / "data/made/photos/Au/Au3.png"
    changed = project / "data/made/photos/Au/Au0.png"
    both = photos.uses(support.MODEL, sha256_file(kept))
    assert [use.version for use in both.found] == [1, 2]
    assert not both.unknown
    second = photos.uses(support.MODEL, str(changed))
    assert [use.version for use in second.found] == [2]
    assert photos.uses(support.MODEL, "0" * 64).found == []
    with pytest.raises(InputError, match="neither a SHA-256 nor a file"):
        photos.uses(support.MODEL, "nonsense")


def test_a_version_that_cannot_be_told_is_named(copied: Path) -> None:
    with collect(ONE) as evidence:
        md5 = evidence.outs()["runs/prepare/manifest.parquet"]
    (copied / ".state/dvc-remote/files/md5" / md5[:2] / md5[2:]).unlink()
    answer = photos.uses(support.MODEL, "0" * 64)
    assert list(answer.unknown) == [1]


def test_what_changed_between_two_versions(project: Path, standing: Stand) -> None:
    standing(project)
    with collect(ONE) as old, collect(TWO) as new:
        found = explain(old, new)
        assert found["data"] == ["1 photo with other bytes under the same name: Au/Au0.png."]
        assert found["parameters"] == ["distill.seed: 7 became 8."]
        assert found["code"] == []
        assert found["environment"] == []
        assert found["weights"] == ["the student was trained again."]
        tested = {row["image_id"] for row in photos.rows(old) if row["split"] == "test"}
        differ = "Au/Au0.png" in tested
        assert any("not comparable" in said for said in found["results"]) == differ
        same = explain(old, old)
    assert same.pop("weights") == ["the student's weights are the same."]
    assert not any(same.values())


def test_figures_on_different_photos_are_not_comparable(copied: Path) -> None:
    with collect(ONE) as old, collect(TWO) as new:
        for evidence in (old, new):
            evaluated = evidence.stage("evaluate@made")["outs"]
            (images,) = [row for row in evaluated if row["path"].endswith("images.parquet")]
            if evidence is new:
                rows = pq.read_table(io.BytesIO(evidence.read(images["path"], images["md5"])))
                buffer = io.BytesIO()
                pq.write_table(rows.slice(1), buffer)
                evidence._read[images["md5"] + "-cut"] = buffer.getvalue()
                images["md5"] += "-cut"
        count = len(rows)
        said = list(explain(old, new)["results"])
        assert len(said) == 1
        assert said[0].startswith(f"made: not comparable: tested on different photos ({count} and")
        # Another data set altogether.
        assert new.record is not None
        new.record["evaluation"] = {"other": new.record["evaluation"]["made"]}
        (one,) = explain(old, new)["results"]
        assert one == "not comparable: tested on different data sets (made; other)."


def test_changes_are_told_in_english() -> None:
    told = list(difference._changed("gates", True, ["x", 2]))
    told += difference._changed("gpus", [], None)
    told += difference._changed("rate", 0.1, "unset")
    assert told == [
        "gates: yes became x, 2.",
        "gpus: none became none.",
        "rate: 0.1 became unset.",
    ]


def test_what_an_older_version_did_not_measure_is_not_compared() -> None:
    old = {"f1": {"value": 0.3}}
    new = {"f1": {"value": 0.4}, "f1_at_1_percent": {"value": 0.35}}
    assert list(difference._figures("made", old, new)) == [
        "F1 on made rose from 0.3 to 0.4 (+0.1)."
    ]
    again = {"f1": {"value": 0.4}, "f1_at_1_percent": {"value": 0.25}}
    (told,) = difference._figures("made", new, again)
    assert told == "F1 at 1 % false alarms on made fell from 0.35 to 0.25 (-0.1)."


def test_events_carry_versions_schemas_and_quality(project: Path, standing: Stand) -> None:
    standing(project)
    with collect(ONE) as evidence:
        found = events.events(evidence)
        again = events.events(evidence)
    path = project / ".state/events.jsonl"
    events.emit(found, events.to_file(path), str(path))
    sent = [json.loads(line) for line in path.read_text().splitlines()]
    path.unlink()
    assert [e.run.runId for e in found] == [e.run.runId for e in again]
    jobs = [e["job"]["name"] for e in sent if e["eventType"] == "COMPLETE"]
    assert jobs[-3:] == ["registered", "gated", "promoted"]
    assert len(sent) == 2 * len(jobs) == 20
    assert [problem for event in sent for problem in problems(event)] == []
    trained = next(e for e in sent if e["job"]["name"] == "distill" and e["inputs"])
    manifest = next(d for d in trained["inputs"] if d["name"].endswith("manifest.parquet"))
    assert "sha256" in [field["name"] for field in manifest["facets"]["schema"]["fields"]]
    assert manifest["inputFacets"]["dataQualityMetrics"]["rowCount"] == 20
    assert all(a["success"] for a in manifest["inputFacets"]["dataQualityAssertions"]["assertions"])


def test_an_event_server_that_is_not_there(project: Path, standing: Stand, free_port: int) -> None:
    standing(project)
    address = f"http://127.0.0.1:{free_port}"
    with collect(ONE) as evidence, pytest.raises(UnavailableError, match="were not accepted"):
        events.emit(events.events(evidence)[:1], events.to_server(address), address)


def test_a_clone_is_the_version_and_nothing_else(
    project: Path, standing: Stand, tmp_path: Path
) -> None:
    standing(project)
    with collect(ONE) as evidence:
        prepare(evidence, tmp_path / "clone")
        rows = photos.rows(evidence)
    clone = tmp_path / "clone"
    head = support.run(clone, "git", "rev-parse", "HEAD").strip()
    assert head == support.run(project, "git", "rev-parse", f"model/{support.MODEL}/v1").strip()
    assert "seed: 7" in (clone / "params.yaml").read_text()
    assert not (clone / "runs").exists()
    for row in rows:
        assert sha256_file(clone / "data" / row["path"]) == row["sha256"]


def test_a_version_is_not_replayed_from_changed_photos(copied: Path, tmp_path: Path) -> None:
    with collect(ONE) as evidence:
        md5 = next(iter(evidence.listing("data/made", evidence.inputs()["data/made"]).values()))
        path = copied / ".state/dvc-remote/files/md5" / md5[:2] / md5[2:]
        path.chmod(0o644)
        path.write_bytes(b"other")
        with pytest.raises(CheckError, match="MD5"):
            prepare(evidence, tmp_path / "clone")


def test_only_what_a_trusted_key_signed_is_made_again(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "reproduce", lambda *_, **__: pytest.fail("ran a command"))
    with monkeypatch.context() as patch, collect(ONE) as evidence:
        patch.setenv("IML_TRUSTED_KEYS", str(tmp_path / "none"))
        with pytest.raises(CheckError, match=r"not trusted here; .*IML_TRUSTED_KEYS"):
            replay(evidence, tmp_path / "clone", lambda line: None)
        # A key that came with the repository verifies, but lets nothing run.
        shutil.copytree(copied / ".state/keys/trusted", copied / "trusted_keys")
        assert {f.verdict for f in CHECKS["signature"](evidence)} == {"verified"}
        with pytest.raises(CheckError, match=r"came with the project: .*; .*IML_TRUSTED_KEYS"):
            replay(evidence, tmp_path / "clone", lambda line: None)
    with collect(ONE) as evidence:
        (evidence.files / "card.md").write_text("other")
        with pytest.raises(CheckError, match=r"card\.md was changed since it was signed"):
            replay(evidence, tmp_path / "clone", lambda line: None)
        evidence.signature.unlink()
        with pytest.raises(CheckError, match="signature is missing"):
            replay(evidence, tmp_path / "clone", lambda line: None)
    assert not (tmp_path / "clone").exists()


def test_a_version_is_not_replayed_from_changed_code(copied: Path, tmp_path: Path) -> None:
    corruptions_history.git_object_edited(copied, random.Random(3))
    with collect(ONE) as evidence, pytest.raises(CheckError, match="git repository"):
        prepare(evidence, tmp_path / "clone")
    assert not (tmp_path / "clone").exists()


def test_an_input_stays_in_the_clone(
    project: Path, standing: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standing(project)
    with collect(ONE) as evidence:
        md5 = evidence.inputs()["data/made"]
        monkeypatch.setattr(Evidence, "inputs", lambda _: {"data/../../out": md5})
        with pytest.raises(InputError, match="leaves this folder"):
            prepare(evidence, tmp_path / "clone")
    assert [path.name for path in tmp_path.iterdir()] == ["clone"]


def test_replays_are_bit_equal_and_a_thread_count_is_explained(
    project: Path, standing: Stand, tmp_path: Path, campaigns: bool
) -> None:
    if not campaigns:
        pytest.skip("three whole pipelines: with --campaigns")
    standing(project)
    with collect(ONE) as evidence:
        for folder in (tmp_path / "one", tmp_path / "another/place"):
            answer = replay(evidence, folder, lambda line: None)
            assert answer.match == Match.EQUAL, answer.sentence()
        evidence.record["environment"]["packages"]["numpy"] = "1.0"
        answer = replay(evidence, tmp_path / "three", lambda line: None, threads=2)
    assert any("package numpy: 1.0 became" in change for change in answer.changes)
    assert any("distill.threads: 1 became 2" in change for change in answer.changes)
    assert answer.first is not None
    assert answer.first.name == "distill"
    assert answer.match == Match.CLOSE, answer.sentence()


def png(value: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(out, "PNG")
    return out.getvalue()


def parquet(value: float) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"name": ["a"], "f1": [value]}), out)
    return out.getvalue()


def tensors(value: float) -> bytes:
    return save_tensors({"w": np.full((2, 2), value, np.float32)})


@pytest.mark.parametrize(
    ("path", "before", "close", "far"),
    [
        ("a.png", png(10), png(20), png(200)),
        ("a.parquet", parquet(0.5), parquet(0.51), parquet(0.9)),
        ("a.safetensors", tensors(1.0), tensors(1.01), tensors(2.0)),
        ("a.json", b'{"f1": 0.5, "n": 3}', b'{"f1": 0.52, "n": 3}', b'{"f1": 0.5, "n": 4}'),
        ("a.csv", b"epoch,loss\n1,0.50\n", b"epoch,loss\n1,0.52\n", b"epoch,loss\n2,0.50\n"),
    ],
)
def test_how_outputs_compare(path: str, before: bytes, close: bytes, far: bytes) -> None:
    assert compare(path, before, before).match == Match.EQUAL
    near = compare(path, before, close)
    assert near.match == Match.CLOSE
    assert "allowed" in near.how
    assert compare(path, before, far).match == Match.DIFFERENT
    assert compare(path, before, b"\x00broken").match == Match.DIFFERENT


NAN, INF = float("nan"), float("inf")


def rows(*values: float) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"name": ["a", "b"], "f1": values}), out)
    return out.getvalue()


WRITERS = {
    "a.safetensors": lambda *values: save_tensors(
        {"v": np.zeros(2, np.float32), "w": np.array(values, np.float32)}
    ),
    "a.parquet": rows,
    "a.json": lambda *values: json.dumps({"a": 1.0, "f1": values}).encode(),
    "a.csv": lambda *values: "\n".join(["epoch,f1", *(f"1,{v}" for v in values)]).encode(),
}


@pytest.mark.parametrize("path", WRITERS)
def test_no_number_against_a_number_is_different(path: str) -> None:
    write = WRITERS[path]
    for before, after in ((0.5, NAN), (NAN, 0.5), (0.5, INF), (INF, -INF), (NAN, INF)):
        for first, second in (((0.5, before), (0.5, after)), ((before, 0.5), (after, 0.5))):
            assert compare(path, write(*first), write(*second)).match == Match.DIFFERENT
    for same in (NAN, INF, -INF):
        assert compare(path, write(same, 0.5), write(same, 0.51)).match == Match.CLOSE
