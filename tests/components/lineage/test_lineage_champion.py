"""A champion that today's code cannot load is compared by its own; one that is broken is not."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lineage_support as support
import other_time
import pytest
import yaml
from typer.testing import CliRunner

from components.core import params, paths
from components.core.errors import EvidenceError, UnavailableError
from components.core.files import read_json
from components.lineage.audit import audit
from components.lineage.collect import collect
from components.registry import chain, promotion
from components.registry.alias import sync_alias
from components.registry.chain import Event
from components.registry.gates import ALARM_GATE, COMPARISONS
from components.registry.ledger import Entry
from components.registry.versions import Registry
from components.student.config import CONFIG
from flows import candidate
from flows.cli import main

LENIENT = {"min_f1": 0.0, "champion_margin": 1.0, "champion_alarm_margin": 1.0, "alpha": 0.4}


@pytest.fixture
def lenient(project: Path, copied: Path) -> Path:
    """Version 1 is champion; version 2, which runs/ holds, would pass every gate."""
    shutil.copytree(project / "runs", copied / "runs", symlinks=True)
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["promotion"]["gates"] |= {**LENIENT, "superiority": False}
    Path("params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return copied


def iml(*arguments: object) -> Any:
    done = CliRunner().invoke(main.app, [*map(str, arguments), "--json"])
    assert done.exit_code == 0, (done.exception, done.output)
    return json.loads(done.stdout)


def register_then(folder: Path) -> None:
    """Register the workspace's student with the code of another time: champion 3."""
    config = paths.EXPORTED / CONFIG
    before = config.read_bytes()
    other_time.code(folder / "components")
    other_time.rename_key(config)
    env = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{support.ROOT}"}
    command = (
        "from components.core import params; from flows import candidate; "
        "assert candidate.register(params.load(), print, 'a test') == (3, True)"
    )
    subprocess.run([sys.executable, "-P", "-c", command], check=True, env=env)
    config.unlink()  # DVC's cache may share its bytes
    config.write_bytes(before)
    registry = Registry.open(support.MODEL)
    registry.ledger.append(Entry(support.MODEL, Event.PROMOTED, 3, "ann", "a test", {}, 1))
    sync_alias(registry)


def test_its_own_code_answers(
    lenient: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    register_then(tmp_path / "then")
    with caplog.at_level("WARNING", logger="iml"):
        decision = candidate.decide(params.load(), 2)
    assert f"{support.MODEL}/3 is served by the code that it carries" in caplog.text
    (alarms,) = [gate for gate in decision.gates if gate.name == ALARM_GATE]
    assert alarms.passed
    assert "version 3" in alarms.reason
    photo = next(Path("data/made/photos").rglob("Tp*.png"))
    found = [
        iml("predict", photo, "--model", f"{support.MODEL}/{n}", "--out", tmp_path / f"{n}")
        for n in (2, 3)
    ]
    scores = [row["photos"][0]["score"] for row in found]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    name = f"{support.MODEL}/3"
    shutil.copytree(photo.parent, tmp_path / "in")
    out = ("--model", name, "--out", tmp_path / "scored")
    done = iml("score", tmp_path / "in", "--min-side", 16, *out)
    assert done["scored"] > 0
    done = iml("evaluate", "--data", "data/made", "--model", name, "--out", tmp_path / "measured")
    then = read_json(paths.EVALUATED / "made" / paths.METRICS)
    assert done["metrics"]["f1"]["value"] == pytest.approx(then["f1"]["value"], abs=0.005)
    assert done["metrics"]["balanced_accuracy"]["n"] == then["balanced_accuracy"]["n"]


def test_code_of_a_signer_that_came_with_the_repository_is_not_run(
    lenient: Path, tmp_path: Path
) -> None:
    register_then(tmp_path / "then")
    name, photo = f"{support.MODEL}/3", next(Path("data/made/photos").rglob("Tp*.png"))
    arguments = ("predict", photo, "--model", name, "--out", tmp_path / "out")
    Path(".state/keys/trusted").rename("trusted_keys")
    done = CliRunner().invoke(main.app, [*map(str, arguments), "--json"])
    assert isinstance(done.exception, EvidenceError)
    line = done.exception.line()
    assert re.search(rf"^{name}: today's code cannot load it .*and the code that it carries", line)
    (key,) = Path("trusted_keys").iterdir()
    assert line.endswith(
        f"if you trust its owner, copy {key} into {Path('.state').absolute()}/keys/trusted"
    )
    decision = candidate.decide(params.load(), 2)
    failed = [gate for gate in decision.gates if not gate.passed]
    assert {gate.value for gate in failed} == {chain.NOT_COMPARABLE}
    assert all("lets no code run" in gate.reason for gate in failed)
    Path(".state/keys/trusted").mkdir(exist_ok=True)
    shutil.copy(key, ".state/keys/trusted")
    assert iml(*arguments)["photos"]
    # One that today's code loads needs none of its own.
    shutil.rmtree(".state/keys/trusted")
    assert iml(*arguments[:3], f"{support.MODEL}/2", *arguments[4:])["photos"]


@pytest.fixture
def restore(lenient: Path) -> Callable[[], object]:
    """The champion's weights are damaged in MLflow's store; gives what puts them right again."""
    facts = Registry.open(support.MODEL).rows()[0].facts()
    (weights,) = [
        path
        for path in Path(".state/mlflow/artifacts").rglob("artifacts/student.safetensors")
        if facts["run_id"] in (path.parents[1] / "MLmodel").read_text()
    ]
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    shutil.rmtree(".state/cache/models", ignore_errors=True)
    return partial(weights.write_bytes, good)


def test_a_champion_that_came_back_is_compared(restore: Callable[[], object]) -> None:
    registry, settings = Registry.open(support.MODEL), params.load()
    for _ in range(2):
        assert not candidate.decide(settings, 2).promoted
        before = registry.rows()
        assert chain.awaits_comparison(before, 2)
    assert not candidate.decide(settings, 2).recorded
    assert registry.rows() == before  # nothing new is nothing to record
    restore()
    decision = candidate.decide(settings, 2)
    compared = [gate for gate in decision.gates if gate.name in COMPARISONS]
    assert decision.recorded
    assert chain.NOT_COMPARABLE not in {gate.value for gate in compared}
    assert not chain.awaits_comparison(registry.rows(), 2)


def test_one_that_cannot_be_fetched_is_not_compared_and_may_be_overruled(
    restore: Callable[[], object],
) -> None:
    registry, settings = Registry.open(support.MODEL), params.load()
    decision = candidate.decide(settings, 2)
    failed = {gate.name: gate for gate in decision.gates if not gate.passed}
    assert set(failed) == {"not_worse_than_champion", "no_more_false_alarms_than_champion"}
    assert {gate.value for gate in failed.values()} == {chain.NOT_COMPARABLE}
    assert "student.safetensors was changed since it was signed" in decision.sentence
    assert chain.champion(registry.rows()) == 1
    page = Path(f".state/decisions/{support.MODEL}-v2.html")
    assert "--overrule" in page.read_text()
    promotion.approve(
        registry, 2, settings.promotion, actor="ann", reason="seen by hand", overrule=True
    )
    assert "overruling not_worse_than_champion" in page.read_text()
    restore()
    with collect(f"{support.MODEL}/2") as evidence:
        wrong = [
            f for f in audit(evidence).findings if f.link == "gates" and f.verdict != "verified"
        ]
    assert not wrong


def test_a_service_that_is_away_is_no_verdict(
    lenient: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise UnavailableError("S3 does not answer")

    monkeypatch.setattr(candidate, "verified_copy", away)
    rows = Registry.open(support.MODEL).rows()
    with pytest.raises(UnavailableError):
        candidate.decide(params.load(), 2)
    assert Registry.open(support.MODEL).rows() == rows
