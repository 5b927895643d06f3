"""Tables at 80 columns: they fit, and what is copied from them is whole."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import __main__ as bench
from components.core.words import plain
from components.lineage.outputs import Match
from components.lineage.verdict import Audit, Finding, Verdict
from components.serving.batch import Outcome
from flows.cli import lineage, model, predict, run, stack
from flows.cli._common import gates_table, new_table
from flows.pipeline import Outcome as Run
from flows.pipeline import StageRun

HASH = "a1196c3fd7db937ef2a5689da1c0a7d5234d62de302ab8cd39fc896b1b68d034"
GATES = [
    {"name": name, "passed": passed, "warning": False, "value": True, "threshold": 1e-4,
     "reason": "largest difference of ONNX from torch 1.401e-06 is within 0.0001"}
    for name, passed in (("no_more_false_alarms_than_champion", True), ("onnx_parity", False))
]  # fmt: skip


def _run() -> None:
    stages = [StageRun("evaluate@a-data-set-with-a-long-name", True, 1234.5)]
    run._show(Run(stages, "boxpromptiml", 12, True, GATES, True, None, False, "It is so."))


def _show() -> None:
    metrics = {"demo/calibration/ece_without_temperature": 0.025317, "demo/f1": 0.3796}
    metrics |= {f"{name}.{end}": 0.1234 for name in list(metrics) for end in ("low", "high")}
    metrics |= {"demo/f1.n": 10_000.0}
    facts = {"files": {"student.safetensors": HASH}, "run_id": HASH[:32]}
    facts |= dict.fromkeys(("record_sha256", "signature_sha256", "signing_key"), HASH)
    entry = SimpleNamespace(model="boxpromptiml", version=12, status="former champion",
                            gates=GATES, facts=facts, overruled=[], withdrawn=False)  # fmt: skip
    record = {
        "git": {"commit": HASH[:40], "clean": False, "dirty": ["x"]},
        "dvc_lock": {"sha256": HASH},
        "datasets": {"demo": {"licence": "our own photos", "boxes_sha256": HASH}},
        "teacher": {"name": "sam_lite", "sha256": HASH},
    }
    model._show(entry, metrics, record)


def _evaluate() -> None:
    block = {"value": 0.8884, "low": 0.8302, "high": 0.9317, "n": 10_000}
    metrics: dict = dict.fromkeys(predict._METRICS, block)
    metrics |= {"groups": {"copy-move/geometric": {"f1": block}}, "robustness": {}}
    predict._show_metrics(metrics, "demo, test split (77 photos)", Path("runs/evaluations/demo"))


def _predict() -> None:
    done = Outcome("in/00048-removal-gatewayof-india.jpg", "00048-removal-gatewayof-india",
                   0.91, 0.123, 12_000, 9_000, HASH, "strongly recompressed (JPEG 12)")  # fmt: skip
    bad = Outcome("in/bad.jpg", "bad", error="cut off")
    predict._show_predictions([done, bad], Path("runs/predict"))


def _audit() -> None:
    findings = [
        Finding("data", Verdict.VERIFIED, "x" * 300),
        Finding("commit", Verdict.UNVERIFIABLE, "is not there", "commit " + HASH),
    ]
    lineage._show_audit(Audit("boxpromptiml", 1, False, "here", findings))


def _replay() -> None:
    out = SimpleNamespace(path="runs/evaluate/demo/images.parquet", how="largest difference 1e-7")
    stage = SimpleNamespace(name="evaluate@demo", outputs=[out], match=Match.CLOSE)
    said = SimpleNamespace(model="m", version=1, stages=[stage], changes=[], sentence=lambda: "")
    lineage._show_replay(said)  # type: ignore[arg-type]


def _uses() -> None:
    use = SimpleNamespace(version=12, path="demo/photos/00048-removal-gatewayof-india.jpg",
                          split="evaluated", boxes=[[1, 2, 3, 4]])  # fmt: skip
    lineage._show_uses("boxpromptiml", [use], {})


def _stack() -> None:
    row = SimpleNamespace(service="prefect-worker", healthy=False, running=True,
                          address="http://127.0.0.1:41234/api/health",
                          log="/srv/projects/iml/.state/stack/logs/worker.log")  # fmt: skip
    stack._show([row])


def _bench() -> None:
    bench._report("Pipeline", {"prepare": {"ratio": 0.9, "same": True, "none": None}}, False)


SHOWN = [_run, _show, _evaluate, _predict, _audit, _replay, _uses, _stack, _bench]


@pytest.mark.parametrize("show", SHOWN)
def test_a_table_fits_80_columns(show, capsys: pytest.CaptureFixture[str]) -> None:
    show()
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    for python in ("True", "False", "None"):
        assert python not in text
    if show in (_run, _show):
        assert "no_more_false_alarms_than_champion" in text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (True, "yes"), (False, "no"), (None, ""), (0.123456, "0.1235"), (3, "3"), ("x", "x"),
        (["x", True], "x, yes"), ([], "none"), ({"a": None, "b": [1]}, "a: , b: 1"), ((), "none"),
    ],
)  # fmt: skip
def test_values_in_english(value: object, said: str) -> None:
    assert plain(value) == said


def test_what_people_wrote_is_no_markup() -> None:
    table = new_table("[red]", "a#")
    assert str(table.title) == "[red]"
    assert table.columns[0].justify == "right"
    assert gates_table("x", GATES).row_count == 2
