"""A team that draws boxes alone: another data set, which has true masks, decides on promotion."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import lineage_support as support
import pytest
import yaml

from components import workspace
from components.core import params
from components.data import build as prepare
from components.data import manifest
from components.data.dataset import load
from components.ingest.importing import import_dataset
from components.lineage.audit import audit
from components.lineage.collect import collect
from components.lineage.verdict import Verdict
from components.registry.versions import Registry, registration
from flows import candidate

BOTH = {"datasets": ["made", "bench"], "gate_dataset": "bench"}


def _boxes_alone(source: Path, folder: Path) -> Path:
    """The same photos as a COCO source with one box a manipulated photo and no mask."""
    images, boxes = [], []
    for number, photo in enumerate(sorted(source.glob("[AT][up]/*.png"))):
        (folder / "photos").mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, folder / "photos" / photo.name)
        images.append({"id": number, "file_name": photo.name, "width": 64, "height": 48})
        if photo.name.startswith("Tp"):
            box = {"bbox": [9, 7, 27, 22], "category_id": 1}
            boxes.append({"id": number, "image_id": number, **box})
    index = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "x"}]}
    (folder / "boxes.json").write_text(json.dumps(index))
    return folder


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of a team with boxes alone, and with a test set that has masks."""
    support.lay_out(tmp_path, support.SMALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IML_STATE", str(tmp_path / ".state"))
    source = tmp_path / ".state/incoming"
    support.make_photos(source)
    said = {"licence": "CC0-1.0", "source_name": "desk"}
    drawn = _boxes_alone(source, tmp_path / ".state/drawn")
    import_dataset(drawn, Path("data/made"), name="made", **said)
    masked = tmp_path / ".state/masked"
    support.make_photos(masked, first=50)
    # A photo that the student is trained on strays into the test set.
    images = prepare.build(Path("data/made"), params.load().prepare)[0].select("train").images
    shutil.copy(Path("data/made", images["path"].iloc[0]), masked / "Au/stray.png")
    import_dataset(masked, Path("data/bench"), name="bench", **said)
    for name in ("made", "bench"):
        workspace.dvc_add(Path("data", name))
    return tmp_path


def _set(**evaluate: object) -> None:
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["evaluate"] |= evaluate
    Path("params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def test_the_named_data_set_decides_and_the_audit_follows_it(team: Path) -> None:
    support.commit(team, "boxes alone")
    support.run_stages()
    assert support.register(team) == 1
    (refused,) = [g for g in _gates(1) if not g["passed"] and g["name"] == "min_f1"]
    photos = len(_tested())
    assert refused["reason"] == (
        f"F1 is not measured: 0 of {photos} manipulated test photos have a true mask"
    )

    _set(**BOTH)
    support.commit(team, "bench decides")
    support.run_stages()
    assert support.register(team) == 2
    f1 = json.loads(Path("runs/evaluate/bench/metrics.json").read_text())["f1"]
    assert (f1["n"], {g["name"]: g["value"] for g in _gates(2)}["min_f1"]) == (10, f1["value"])
    rows = Registry.open(support.MODEL).rows()
    assert [(r.version, r.event) for r in rows if r.event in ("promoted", "rejected")] == [
        (1, "rejected"),
        (2, "promoted"),
    ]
    facts = next(row for row in rows if row.version == 2 and row.event == "registered").facts()
    assert facts["tags"]["f1"] == f"{f1['value']:.4f}"
    for version, decides in ((1, "made"), (2, "bench")):
        with collect(f"{support.MODEL}/{version}") as evidence:
            assert evidence.gate_dataset == decides
            found = audit(evidence)
        assert [f.line() for f in found.of(Verdict.BROKEN)] == []

    # Against a champion: both on the photos of the named data set that neither knows.
    settings = params.load()
    album = candidate._album(settings)
    registry = Registry.open(support.MODEL)
    champion = candidate._champion(settings, registry, registration(registry.rows(), 2), album)
    comparison = candidate._compare(settings, champion, album)
    assert (comparison.f1.n, comparison.false_alarm_area.n) == (10, 10)
    assert comparison.f1.value == 0
    assert len(load("data/bench").images) == 21


def _gates(version: int) -> list[dict]:
    rows = Registry.open(support.MODEL).rows()
    return [r for r in rows if r.version == version and r.event == "gated"][-1].facts()["gates"]


def _tested() -> list[str]:
    return list(manifest.read("runs/prepare").select("test", "manipulated").images["image_id"])
