"""`iml model` on a real MLflow store and ledger."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from inspect import unwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from click.testing import Result
from typer.testing import CliRunner

from components.annotate.photos import find
from components.annotate.ranking import rank
from components.core import params as parameters
from components.core.errors import CheckError, ImlError, InputError
from components.core.files import write_json
from components.core.images import save_photo
from components.data.manifest import write_table
from components.registry.comparison import Comparison, Difference
from components.registry.gates import GateEvidence
from components.registry.package import Package
from components.registry.promotion import decide_and_promote, register
from components.registry.runs import Start
from components.registry.versions import Registry, registration
from components.serving import own_code
from components.serving.origin import Student
from components.serving.table import SCORES
from flows import drift
from flows.cli.model import app

PROJECT = Path(__file__).parents[3]
LOOSE = {"min_f1": 0.2, "superiority": False}
RECORD = {
    "git": {"commit": "c" * 40, "clean": False, "dirty": ["x"]},
    "dvc_lock": {"sha256": "1" * 64},
    "stages": [{"name": "distill", "outs": [{"path": "x"}], "params": {}}],
    "datasets": {"made": {"licence": "CC0-1.0", "boxes_sha256": "b" * 64}},
    "teacher": {"name": "grabcut", "sha256": "e" * 64},
    "validation": {"sha256": "f" * 64},
    "evaluation": {"made": {"sha256": "e" * 64, "result": {}}},
    "files": {"student.json": "f" * 64},
    "environment": {"packages": {"torch": "2"}},
    "seeds_and_threads": {"distill.seed": 7},
}


def call(*arguments: str) -> Result:
    # Wide, so that no cell is folded.
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})


def document(*arguments: str) -> Any:
    done = call(*arguments, "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


def refused(kind: type[ImlError], *arguments: str) -> str:
    done = call(*arguments)
    assert isinstance(done.exception, kind), (done.output, done.exception)
    return done.exception.line()


def package(folder: Path, content: str) -> Package:
    folder = folder / content
    folder.mkdir()
    for name in ("student.safetensors", "student.json", "student.onnx"):
        (folder / name).write_text(f"{content} {name}")
    metrics = {"made": {"f1": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}}}
    tags = {"f1": "0.5000", "git_commit": "c" * 40}
    return Package(
        Start(content),
        folder,
        {},
        metrics,
        {"distill": {"seed": 7}},
        RECORD,
        {"card.md": f"# {content}\n"},
        tags=tags,
    )


def evidence(champion: int | None, f1: float) -> GateEvidence:
    value = f1 - 0.5
    better = Difference(f1, 0.5, value, value - 0.01, value + 0.01, 40, 20)
    against = Comparison(champion or 0, better, Difference(0, 0, 0, 0, 0, 40, 20), 0)
    metrics = {
        "f1": {"value": f1, "n": 40},
        "image_auc": {"value": 0.9},
        "false_alarm_area": {"value": 0.01, "n": 40},
        "n_groups_manipulated": 20,
        "n_groups_authentic": 20,
    }
    return GateEvidence(
        validation={"passed": True},
        metrics=metrics,
        parity={"tolerance": 1e-4, "sizes": [{"largest_difference": 1e-6}]},
        dirty=["x"],
        record=RECORD,
        licences=None,
        signer="5" * 64,
        signature_problem="",
        megabytes=12.0,
        latency_ms=None,
        comparison=against if champion else None,
        champion=champion,
        hashes={},
    )


def fill(registry: Registry, folder: Path, versions: Sequence[tuple[str, float]]) -> None:
    """Register and gate versions of some F1."""
    rules = parameters.load(PROJECT / "params.yaml").promotion
    rules = rules.model_copy(update={"gates": rules.gates.model_copy(update=LOOSE)})
    for content, f1 in versions:
        version = register(registry, package(folder, content), clean=False, actor="ann")
        champion = registry.ledger.champion(registry.model)
        decide_and_promote(
            registry, version, evidence(champion, f1), rules, actor="[bold]ann[/nothing]"
        )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1 (former champion), 2 (champion), 3 (rejected)."""
    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IML_STATE", str(folder / "state"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("IML_LEDGER_URL", raising=False)
        fill(Registry.open("boxpromptiml"), folder, [("a", 0.5), ("b", 0.6), ("c", 0.1)])
    return folder / "state"


@pytest.fixture
def state(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of both databases; the artifacts stay where they are. No workspace here."""
    shutil.copytree(shared / "keys", tmp_path / "state/keys")
    for name in ("ledger.db", "mlflow/mlflow.db"):
        target = tmp_path / "state" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((shared / name).read_bytes())
    monkeypatch.setenv("IML_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("IML_LEDGER_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "state"


def test_list(state: Path) -> None:
    found = document("list")
    assert [(v["version"], v["status"]) for v in found["versions"]] == [
        (1, "former champion"),
        (2, "champion"),
        (3, "rejected"),
    ]
    assert found["notes"] == []
    text = call("list").stdout
    assert "former champion" in text
    assert "0.5000" in text
    assert "10 of 12" in text  # version 3: below the threshold, and worse than the champion
    assert "no versions yet" in call("list", "another").stdout
    assert document("list", "another")["versions"] == []


def test_show(state: Path) -> None:
    found = document("show")
    assert (found["version"], found["status"]) == (2, "champion")
    assert found["metrics"]["made/f1"] == 0.5
    assert found["lineage"]["git"]["dirty"] == ["x"]
    assert all(gate["passed"] for gate in found["gates"])
    text = call("show", "boxpromptiml/3").stdout
    assert "rejected" in text
    assert "F1 0.1 is below 0.2" in text
    assert "0.4000 to 0.6000" in text
    assert "CC0-1.0" in text
    assert found["facts"]["record_sha256"][:12] in call("show", "boxpromptiml@champion").stdout
    assert "with 1 uncommitted" in text


def test_history(state: Path) -> None:
    found = document("history")
    assert [(row["event"], row["version"]) for row in found["rows"]] == [
        ("registered", 1), ("gated", 1), ("promoted", 1),
        ("registered", 2), ("gated", 2), ("promoted", 2),
        ("registered", 3), ("gated", 3), ("rejected", 3),
    ]  # fmt: skip
    assert found["problems"] == []
    # What people write is shown as they wrote it.
    assert "[bold]ann[/nothing]" in call("history").stdout


def test_rollback(state: Path) -> None:
    said = call("rollback", "boxpromptiml/1", "--reason", "false alarms", "--by", "bob").stdout
    assert "boxpromptiml/1 is champion again (ledger row 10), in place of version 2" in said
    last = document("history")["rows"][-1]
    assert (last["event"], last["actor"], last["reason"]) == ("rolled_back", "bob", "false alarms")
    assert document("show")["version"] == 1
    back = document("rollback", "boxpromptiml/2", "--reason", "was fine")
    assert back["row"]["previous_champion"] == 1


def test_approve_and_card(state: Path, tmp_path: Path) -> None:
    because = ("--reason", "fewer false alarms")
    assert "params.yaml" in refused(InputError, "approve", "boxpromptiml/3", *because)
    text = (PROJECT / "params.yaml").read_text().replace("min_f1: 0.05", "min_f1: 0.2")
    (tmp_path / "params.yaml").write_text(text.replace("superiority: true", "superiority: false"))
    assert "was rejected: min_f1" in refused(CheckError, "approve", "boxpromptiml/3", *because)
    assert "this workspace's model" in refused(InputError, "approve", "other/3", *because)
    rules = parameters.load(tmp_path / "params.yaml").promotion
    rules = rules.model_copy(update={"mode": "approve"})
    registry = Registry.open("boxpromptiml")
    decide_and_promote(registry, 3, evidence(2, 0.6), rules, actor="ann")
    assert document("list")["versions"][2]["status"] == "awaiting approval"
    loose = (tmp_path / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(loose.replace("four_eyes: false", "four_eyes: true"))
    by_bob = ("approve", "boxpromptiml/3", *because, "--by", "bob")
    assert "which is" in refused(InputError, *by_bob)  # whoever says so
    (tmp_path / "params.yaml").write_text(loose)
    found = document(*by_bob)["row"]
    assert (found["event"], found["actor"], found["previous_champion"]) == ("promoted", "bob", 2)
    assert document("show")["version"] == 3
    shown = call("card", "boxpromptiml/3")
    assert shown.stdout == "# c\n\n"
    assert "Verified copy" in shown.stderr


def test_the_flows_decide_alike(state: Path, tmp_path: Path) -> None:
    from prefect.testing.utilities import prefect_test_harness

    from flows.promote import promote, rollback

    text = (PROJECT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("min_f1: 0.05", "min_f1: 0.2"))
    who = {"by": "bob", "reason": "because"}
    with prefect_test_harness(server_startup_timeout=180):
        refused = promote(3, **who, return_state=True)
        assert refused.is_failed()
        assert "was rejected: min_f1" in refused.message
        back = rollback(1, **who, return_state=True)
        assert back.message == "version 1 is champion (ledger row 10)"
        rules = parameters.load().promotion.model_copy(update={"mode": "approve"})
        registry = Registry.open("boxpromptiml")
        decide_and_promote(registry, 3, evidence(1, 0.6), rules, actor="ann")
        done = promote(3, **who, return_state=True)
    assert done.message == "version 3 is champion (ledger row 13)"
    assert Registry.open("boxpromptiml").store.alias("boxpromptiml") == 3


def test_wrong_use(state: Path) -> None:
    because = ("--reason", "because")
    assert "has no version number" in refused(
        InputError, "rollback", "boxpromptiml@champion", *because
    )
    assert "was never champion" in refused(InputError, "rollback", "boxpromptiml/3", *because)
    assert "known versions: 1, 2, 3" in refused(InputError, "show", "boxpromptiml/7")
    assert "names no model" in refused(InputError, "show", "boxpromptiml@best")
    assert "has no champion" in refused(InputError, "show", "another@champion")
    assert "not a model name" in refused(InputError, "list", "a'b")
    assert call("rollback", "boxpromptiml/1").exit_code == 2  # no reason given


def test_a_moved_alias_is_told_once_and_put_right(state: Path) -> None:
    registry = Registry.open("boxpromptiml")
    registry.store.set_alias("boxpromptiml", 3)
    done = call("list", "--json")
    assert "pointed at version 3, the ledger says 2: it was moved by hand" in done.stderr
    assert len(json.loads(done.stdout)["notes"]) == 1
    assert document("list")["notes"] == []


def test_a_version_deleted_in_mlflow_stops_nothing_else(state: Path) -> None:
    Registry.open("boxpromptiml").store._client.delete_model_version("boxpromptiml", "2")
    rows = document("history")["rows"]
    for _ in range(2):
        found = document("list")
        assert [entry["withdrawn"] for entry in found["versions"]] == [False, True, False]
        assert "`iml model rollback`" in found["notes"][0]
        assert "champion, withdrawn" in call("list").stdout
        assert document("show", "boxpromptiml/1")["withdrawn"] is False
        assert "no longer has this version" in refused(CheckError, "show", "boxpromptiml/2")
        assert "no longer has this version" in refused(CheckError, "card")
    assert document("history")["rows"] == rows  # commands that read write nothing
    document("rollback", "boxpromptiml/1", "--reason", "the champion is gone")
    events = [(row["event"], row["version"]) for row in document("history")["rows"]]
    assert events[len(rows) :] == [("withdrawn", 2), ("rolled_back", 1)]
    assert document("list")["notes"] == []


@pytest.mark.parametrize("deleted", [False, True])
def test_drift_is_told_without_the_champion_s_run(
    state: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, deleted: bool
) -> None:
    pd.DataFrame({"score": np.linspace(0, 1, 60)}).to_csv("scores.csv", index=False)
    registry = Registry.open("boxpromptiml")
    run = registration(registry.rows(), 2).facts()["run_id"]
    if deleted:
        registry.store._client.delete_run(run)
    work = unwrap(drift.drift.fn)
    assert not work("scores.csv", "scores.csv", str(tmp_path / "out")).drifted
    assert ("run does not get the result" in caplog.text) == deleted
    assert ("drift.score" in registry.store.metrics(run)) != deleted


def _scored_photos(folder: Path, count: int) -> Path:
    """Photos of noise that were scored, from 0 to 1 in the order of their names."""
    names = [f"{number:02}.png" for number in range(count)]
    for number, name in enumerate(names):
        draw = np.random.default_rng(number)
        save_photo(folder / "in" / name, draw.integers(0, 255, (70, 90, 3), dtype=np.uint8))
    rows = [
        {**dict.fromkeys(SCORES.names), "name": name, "status": "scored", "score": value}
        for name, value in zip(names, np.linspace(0, 1, count), strict=True)
    ]
    rows.append({**rows[0], "name": "tiny.png", "status": "abstained", "score": None})
    write_table(folder / "now it is/scores.parquet/0000000-0.parquet", pd.DataFrame(rows), SCORES)
    write_json(folder / "now it is/score.json", {"source": str(folder / "in")})
    return folder / "now it is/scores.parquet"


def test_drift_names_the_photos_to_annotate_first(
    state: Path,
    tmp_path: Path,
    student_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = Registry.open("boxpromptiml")
    made = replace(package(tmp_path, "real"), folder=student_folder)
    version = register(registry, made, clean=False, actor="ann")
    rules = parameters.load(PROJECT / "params.yaml").promotion
    rules = rules.model_copy(update={"gates": rules.gates.model_copy(update=LOOSE)})
    decide_and_promote(registry, version, evidence(2, 0.9), rules, actor="ann")
    monkeypatch.setattr(drift, "_CANDIDATES", 12)
    now, told = _scored_photos(tmp_path, 40), []
    monkeypatch.setattr(drift.notify, "send", lambda *said: told.append(said))
    pd.DataFrame({"score": np.zeros(60)}).to_csv("then.csv", index=False)
    work = unwrap(drift.drift.fn)

    found = work("then.csv", str(now), "out")
    # The least certain twelve of forty are 14 to 25; those in the order of `iml dataset rank`.
    names = {f"{number}.png" for number in range(14, 26)}
    unsure = [one for one in find(str(now.parent), state) if one.name in names]
    order = rank(unsure, "gain", own_code.load(Student(student_folder, "small", None)), 0)
    assert list(found.first) == [one.name for one in order[:5]]
    command = f"iml annotate '{now.parent}' --into DATASET --order gain"
    assert told == [("drift", f"{found.sentence}; {found.advice}")]
    for text in (found.advice, html.unescape(Path("out/drift.html").read_text())):
        assert command in text
        assert all(name in text for name in found.first)
    assert json.loads(Path("out/drift.json").read_text())["first"] == list(found.first)

    # Where the photos are gone, or the table is another one, the command alone is named.
    shutil.rmtree(tmp_path / "in")
    assert work("then.csv", str(now), "out").advice.startswith(f"`{command}`")
    now.rename("other.parquet")
    assert "`iml annotate PHOTOS " in work("then.csv", "other.parquet", "out").advice


def test_a_renamed_model_gets_its_name_back(state: Path) -> None:
    Registry.open("boxpromptiml").store._client.rename_registered_model("boxpromptiml", "best")
    for command in ("list", "show", "card"):
        assert "renamed to best in MLflow" in refused(CheckError, command)
    assert "is not boxpromptiml" in refused(CheckError, "rename", "worst", "boxpromptiml")
    said = document("rename", "best", "boxpromptiml")
    assert said == {"model": "boxpromptiml", "renamed_from": "best", "versions": [1, 2, 3]}
    assert document("list")["notes"] == []


def test_an_edited_ledger_is_refused_and_its_history_still_shown(state: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{state}/ledger.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE ledger SET evidence = 'x' WHERE sequence = 5")
    for command in ("list", "show"):
        assert "row 5 (gated version 2) was edited" in refused(CheckError, command)
    done = call("history", "--json")
    assert isinstance(done.exception, CheckError)
    found = json.loads(done.stdout)
    assert len(found["rows"]) == 9
    assert found["problems"][0] == "row 5 (gated version 2) was edited"


def test_the_name_comes_from_the_workspace(state: Path, tmp_path: Path) -> None:
    text = (PROJECT / "params.yaml").read_text().replace("model: boxpromptiml", "model: other")
    (tmp_path / "params.yaml").write_text(text)
    assert document("list")["model"] == "other"
