"""That a run says before the training when no version can be promoted by the test photos."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pytest

from components.core import params
from components.data import manifest
from components.data.manifest import BOXES, IMAGES, Manifest
from flows import pipeline, tracked
from flows.catalogue import Catalogue
from flows.pipeline import StageRun

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("masked", [False, True])
def test_a_run_says_so_before_it_trains(
    masked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        {
            **{"image_id": name, "label": label, "split": "test", "mask_path": mask},
            **{"dataset": "demo", "pool": False},
        }
        for name, label, mask in (
            ("a", "manipulated", "masks/a.png" if masked else None),
            ("b", "authentic", None),
        )
    ]
    said: list[str] = []

    def run_stage(name: str, catalogue: object) -> StageRun:
        if name == "prepare":
            photos = pd.DataFrame(rows).reindex(columns=IMAGES.names)
            numbers = {n: 0 for n in IMAGES.names if IMAGES.field(n).type == "int32"}
            tables = Manifest(photos.fillna(numbers), pd.DataFrame(columns=BOXES.names))
            manifest.write("runs/prepare", tables)
        said.append(f"{name} after {len(caplog.records)} warnings")
        return StageRun(name, True, 0.0)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "run_stage", run_stage)
    monkeypatch.setattr(pipeline, "begin_tracking", lambda run: None)
    monkeypatch.setattr(pipeline, "run_logger", lambda: logging.getLogger("run"))
    monkeypatch.setattr(pipeline.workspace, "stages", lambda: ["prepare", "distill"])
    settings, nowhere = params.load(ROOT / "params.yaml"), Catalogue("m")
    pipeline._stages(settings, {"prepare": []}, nowhere, tracked.Run(settings, "test"))
    count = 0 if masked else 1
    assert said == ["prepare after 0 warnings", f"distill after {count} warnings"]
    if not masked:
        assert "data/demo: 0 of 1 manipulated test photos have a true mask" in caplog.text
