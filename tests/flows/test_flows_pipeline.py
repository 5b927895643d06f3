"""A run that would change nothing is known as such, and only then."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import workspace
from components.core import params as parameters
from components.core.errors import CheckError, EvidenceError, InputError
from components.core.params import Params
from components.registry.chain import NOT_COMPARABLE, Event
from components.registry.layout import LOCK_HASH
from components.registry.ledger import Entry, Ledger
from components.workspace import repository
from flows import pipeline, publishing, tracked
from flows.catalogue import Catalogue
from flows.pipeline import Outcome, StageRun

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one stage that has run, and a ledger with one version."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IML_STATE", str(tmp_path / ".state"))
    (tmp_path / ".gitignore").write_text(".state\n")
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (tmp_path / "data/demo").mkdir(parents=True)
    (tmp_path / "data/demo/photo").write_text("one")
    stage = {"cmd": "cat data/demo/photo > out", "deps": ["data/demo"], "outs": ["out"]}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"copy": stage}}))
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, check=True, capture_output=True)
    workspace.dvc_add(Path("data/demo"))
    commit()
    workspace.reproduce("copy", lambda line: None)
    append(Event.REGISTERED, 1)
    return tmp_path


def commit() -> None:
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", "add", "--all"], check=True)
    subprocess.run(["git", *who, "commit", "-qm", "change"], check=True)


def append(event: Event, version: int, facts: dict[str, Any] | None = None) -> None:
    Ledger().append(Entry("boxpromptiml", event, version, "test", "why", facts or {}))


def outcome(params: Params) -> Outcome:
    made = Outcome(
        stages=[StageRun("copy", True, 3.0)],
        model=params.promotion.model,
        version=1,
        registered=True,
        gates=[{"name": "min_f1", "passed": True}],
        promoted=True,
        replaced=2,
        awaiting=False,
        sentence="Version 1 is champion.",
    )
    pipeline._remember(params, made)
    return made


def test_a_run_after_which_nothing_changed_has_nothing_to_do(here: Path) -> None:
    params = parameters.load()
    assert pipeline.finished(params) is None  # there was no run yet
    made = outcome(params)
    again = pipeline.finished(params)
    assert again is not None
    assert again.stages == [StageRun("copy", False, 0.0)]
    assert (again.version, again.registered, again.replaced) == (1, False, None)
    assert (again.promoted, again.gates) == (True, made.gates)
    assert again.sentence.startswith("Nothing to do: nothing has changed since the run of 20")
    assert again.sentence.endswith("UTC. Version 1 is champion.")


def edit_photo(here: Path) -> None:
    (here / "data/demo/photo").write_text("two")


def edit_gate(here: Path) -> None:
    text = (here / "params.yaml").read_text()
    (here / "params.yaml").write_text(text.replace("min_f1: 0.05", "min_f1: 0.06"))


def test_lost_state_is_refused_before_any_stage(here: Path) -> None:
    shutil.rmtree(here / ".state")
    subprocess.run(["git", "tag", "model/boxpromptiml/v3"], check=True)
    (here / "out").unlink()
    with pytest.raises(EvidenceError, match=r"has the tag model/boxpromptiml/v3.*IML_STATE"):
        pipeline.bring_up_to_date()
    assert not (here / "out").exists()


def decide(here: Path) -> None:
    append(Event.REJECTED, 1)


def remove_output(here: Path) -> None:
    (here / "out").unlink()


def make_dirty(here: Path) -> None:
    (here / "dvc.yaml").write_text((here / "dvc.yaml").read_text() + "# a comment\n")


def damage_memory(here: Path) -> None:
    (here / ".state/last_run.json").write_text("{}")


@pytest.mark.parametrize(
    "change", [edit_photo, edit_gate, decide, remove_output, make_dirty, damage_memory]
)
def test_a_run_after_a_change_has_something_to_do(
    here: Path, change: Callable[[Path], None]
) -> None:
    outcome(parameters.load())
    change(here)
    assert pipeline.finished(parameters.load()) is None


def test_a_new_commit_or_another_store_counts(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome(parameters.load())
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        assert pipeline.finished(parameters.load()) is None
    assert pipeline.finished(parameters.load()) is not None
    commit()
    assert pipeline.finished(parameters.load()) is None


def test_a_version_that_could_not_be_compared_is_tried_again(here: Path) -> None:
    params = parameters.load()
    gate = {"name": "not_worse_than_champion", "value": NOT_COMPARABLE, "passed": False}
    pipeline._remember(params, replace(outcome(params), gates=[gate], promoted=False))
    assert pipeline.finished(params) is None


def test_a_deployment_skips_what_made_the_last_version_or_made_it_again(here: Path) -> None:
    params, origin = parameters.load(), here.parent / f"{here.name}.git"
    subprocess.run(["git", "init", "--quiet", "--bare", origin], check=True)
    subprocess.run(["git", "remote", "add", "origin", origin], check=True)
    subprocess.run(["git", "checkout", "--quiet", "-b", repository.BRANCH], check=True)
    commit()
    assert publishing.unchanged(params, 14) is None  # no version yet
    subprocess.run(["git", "tag", "model/boxpromptiml/v1"], check=True)
    said = "neither data, parameters nor code changed since model/boxpromptiml/v1"
    assert publishing.unchanged(params, 14) == said
    # Made again by other code; the ledger knows the new dvc.lock.
    (here / "dvc.lock").write_text(f"{workspace.lock_text()}# other code\n")
    commit()
    assert publishing.unchanged(params, 14) is None
    append(Event.CONFIRMED, 1, {LOCK_HASH: workspace.lock_hash()})
    assert publishing.unchanged(params, 14) == said
    # A rejection stands, but for one that only lacks a comparison.
    gates = [{"name": "not_worse_than_champion", "value": -0.1, "passed": False}]
    append(Event.GATED, 1, {"gates": gates})
    append(Event.REJECTED, 1)
    assert publishing.unchanged(params, 14) == said
    append(Event.GATED, 1, {"gates": [{**gates[0], "value": NOT_COMPARABLE}]})
    append(Event.REJECTED, 1)
    assert publishing.unchanged(params, 14) is None
    edit_gate(here)
    commit()
    append(Event.PROMOTED, 1)
    assert publishing.unchanged(params, 14) is None


def test_the_command_that_is_named_takes_changed_data_in(here: Path) -> None:
    edit_photo(here)
    params = parameters.load()
    run, catalogue = tracked.Run(params, "iml run"), Catalogue(params.promotion.model)
    with pytest.raises(CheckError, match=r"the data differ from data/demo\.dvc") as told:
        pipeline._stages(params, workspace.changed(params.datasets), catalogue, run)
    command = told.value.line().split("`")[1]
    subprocess.run([sys.executable, "-m", *command.split()], check=True, stdin=subprocess.DEVNULL)
    assert "data/demo.dvc" not in workspace.changed(params.datasets)


def test_dvc_lock_alone_is_committed_where_asked(here: Path) -> None:
    params = parameters.load()
    outcome(params)
    assert pipeline.finished(params) is not None
    assert pipeline.finished(params, commit=True) is None
    (here / "note").write_text("staged by a person")
    subprocess.run(["git", "add", "note"], check=True)
    repository.commit_lock("retrain: F1 0.5 on demo")
    shown = ["git", "show", "--name-only", "--format=%s", "HEAD"]
    said = subprocess.run(shown, check=True, capture_output=True, text=True).stdout.split("\n")
    assert [line for line in said if line] == ["retrain: F1 0.5 on demo", "dvc.lock"]
    assert workspace.lock_committed()
    head = workspace.git_commit()
    repository.commit_lock("again")
    assert workspace.git_commit() == head
    outcome(params)
    assert pipeline.finished(params, commit=True) is not None


def test_the_signers_public_key_is_committed_too_and_is_no_change(here: Path) -> None:
    outcome(parameters.load())
    key = here / "trusted_keys/a.pem"
    key.parent.mkdir()
    key.write_text("a public key")
    assert workspace.git_dirty() == []
    assert pipeline.finished(parameters.load()) is not None
    repository.commit_lock("retrain: F1 0.5 on demo", "trusted_keys/a.pem")
    shown = ["git", "show", "--name-only", "--format=", "HEAD"]
    said = subprocess.run(shown, check=True, capture_output=True, text=True).stdout.split()
    assert said == ["dvc.lock", "trusted_keys/a.pem"]


@pytest.mark.parametrize("publish", [False, True])
def test_a_lost_key_is_named_before_the_stages(
    here: Path, monkeypatch: pytest.MonkeyPatch, publish: bool
) -> None:
    monkeypatch.setattr(pipeline, "_run", lambda *_, **__: pytest.fail("ran"))
    monkeypatch.setattr(workspace, "require", lambda _: None)
    (here / ".state/keys/signing.pem").unlink()
    with pytest.raises(InputError, match="the private signing key is missing"):
        pipeline.bring_up_to_date(publish)


def test_what_is_remembered_has_a_schema_number(here: Path) -> None:
    outcome(parameters.load())
    path = here / ".state/last_run.json"
    kept = json.loads(path.read_text())
    assert kept["schema"] == 1
    path.write_text(json.dumps({**kept, "schema": 2}))
    assert pipeline.finished(parameters.load()) is None
