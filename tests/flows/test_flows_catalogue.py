"""Events of stages and decisions as they happen, from a real DVC workspace and ledger to a file."""

from __future__ import annotations

import copy
import gzip
import http.server
import json
import logging
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from openlineage_schemas import problems

from components import workspace
from components.registry.chain import Event
from components.registry.ledger import Entry, Ledger
from components.workspace import StageError
from flows import catalogue
from flows.catalogue import Catalogue

PARENT = str(uuid.UUID(int=7))
MANIFEST = "runs/prepare/manifest.parquet"
PIPELINE = {
    "stages": {
        "prepare": {"cmd": f"cp table.parquet {MANIFEST}", "deps": ["table.parquet"],
                    "outs": [MANIFEST]},
        "use": {"cmd": "wc -c runs/prepare/manifest.parquet > runs/use.txt", "deps": [MANIFEST],
                "outs": ["runs/use.txt"]},
        "bad": {"cmd": "sh -c 'echo error: no room; exit 1'", "deps": [MANIFEST],
                "outs": ["runs/bad.txt"]},
    }
}  # fmt: skip
Sent = Callable[[], list[dict[str, Any]]]


def run(root: Path, *command: str) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        command, cwd=root, env={**os.environ, "PATH": path}, capture_output=True, check=True
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which nothing has run, validated once."""
    root = tmp_path_factory.mktemp("workspace")
    for folder in ("prepare", "validate"):
        (root / "runs" / folder).mkdir(parents=True)
    pq.write_table(pa.table({"image_id": ["a", "b"], "group": ["g", None]}), root / "table.parquet")
    checks = {"details": [{"name": "boxes lie in photos", "passed": True}]}
    (root / "runs/validate/result.json").write_text(json.dumps(checks))
    (root / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
    run(root, "git", "init", "-q")
    run(root, "dvc", "init", "-q")
    run(root, "git", "add", "--all")
    run(root, "git", "-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-qm", "x")
    return root


@pytest.fixture
def sent(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sent:
    """Stand in the workspace, with a catalogue that is a file; gives what it was told."""
    path = tmp_path / "events.jsonl"
    monkeypatch.chdir(made)
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "file")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__LOG_FILE_PATH", str(path))
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__APPEND", "true")
    monkeypatch.setenv("IML_LEDGER_URL", f"sqlite:///{tmp_path}/ledger.db")
    return lambda: [json.loads(line) for line in path.read_text().splitlines()]


def reproduce(run: Catalogue, stage: str) -> bool:
    with run.stage(stage) as tell:
        return workspace.reproduce(stage, lambda line: None, on_start=tell)


def test_stages_that_ran_failed_or_had_nothing_to_do(sent: Sent) -> None:
    run = Catalogue("m", PARENT)
    assert reproduce(run, "prepare")
    assert reproduce(run, "use")
    assert not reproduce(run, "use")
    with pytest.raises(StageError):
        reproduce(run, "bad")
    events = sent()
    assert [(e["job"]["name"], e["eventType"]) for e in events] == [
        ("prepare", "START"), ("prepare", "COMPLETE"), ("use", "START"), ("use", "COMPLETE"),
        ("bad", "START"), ("bad", "FAIL"),
    ]  # fmt: skip
    assert [problem for event in events for problem in problems(event)] == []
    assert len({e["run"]["runId"] for e in events}) == 3
    assert {e["run"]["facets"]["parent"]["run"]["runId"] for e in events} == {PARENT}
    table = events[1]["outputs"][0]["facets"]
    locked = workspace.read_lock()["stages"]["prepare"]["outs"][0]
    assert table["version"]["datasetVersion"] == locked["md5"]
    assert [f["name"] for f in table["schema"]["fields"]] == ["image_id", "group"]
    read = events[3]["inputs"][0]["inputFacets"]
    assert read["dataQualityMetrics"]["rowCount"] == 2
    assert read["dataQualityMetrics"]["columnMetrics"]["group"]["nullCount"] == 1
    assert read["dataQualityAssertions"]["assertions"][0]["assertion"] == "boxes lie in photos"
    assert "no room" in events[5]["run"]["facets"]["errorMessage"]["message"]


def test_a_stage_that_is_stopped_is_aborted(sent: Sent) -> None:
    def stop() -> None:
        with Catalogue("m", PARENT).stage("use") as tell:
            tell()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert [e["eventType"] for e in sent()] == ["START", "ABORT"]
    assert not [problem for event in sent() for problem in problems(event)]


def test_decisions_of_the_block_and_no_others(sent: Sent) -> None:
    ledger = Ledger()
    ledger.append(Entry("m", Event.REGISTERED, 1, "ann", "made", {}))
    with Catalogue("m").decisions():
        ledger.append(Entry("other", Event.REGISTERED, 1, "ann", "made", {}))
        ledger.append(Entry("m", Event.PROMOTED, 1, "ann", "passed", {}))
    ledger.append(Entry("m", Event.REJECTED, 1, "ann", "later", {}))
    events = sent()
    assert [(e["job"]["name"], e["eventType"]) for e in events] == [
        ("promoted", "START"), ("promoted", "COMPLETE")
    ]  # fmt: skip
    assert events[1]["outputs"][0]["name"] == "champion"
    assert not [problem for event in events for problem in problems(event)]


def test_the_check_of_events_sees_what_is_wrong(sent: Sent) -> None:
    with Catalogue("m").decisions():
        Ledger().append(Entry("m", Event.PROMOTED, 1, "ann", "passed", {}))
    good = sent()[1]
    for change in (
        lambda e: e.pop("producer"),
        lambda e: e["run"].update(runId="7"),
        lambda e: e.update(eventTime="2026-01-01T00:00:00"),
        lambda e: e["job"]["facets"]["jobType"].pop("integration"),
        lambda e: e["job"]["facets"]["jobType"].update(colour="red"),
        lambda e: e["inputs"][0]["facets"]["version"].update(datasetVersion=1),
        lambda e: e["inputs"][0]["facets"]["version"].update(_schemaURL="https://x.example/y"),
        lambda e: e["run"]["facets"].update(jobType=e["job"]["facets"]["jobType"]),
    ):
        event = copy.deepcopy(good)
        change(event)
        assert problems(event)
    assert not problems(good)


def test_a_server_gets_them_with_its_key(made: Path, tmp_path: Path) -> None:
    posted: list[tuple[str, str, dict[str, Any]]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["Content-Encoding"] == "gzip":
                body = gzip.decompress(body)
            posted.append((self.path, self.headers["Authorization"], json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        setting = {"OPENLINEAGE_URL": address, "OPENLINEAGE_API_KEY": "s3cr3t"}
        setting["IML_LEDGER_URL"] = f"sqlite:///{tmp_path}/ledger.db"
        # The client writes settings of its own into the environment.
        with mock.patch.dict(os.environ, setting), Catalogue("m").decisions():
            Ledger().append(Entry("m", Event.PROMOTED, 1, "ann", "passed", {}))
        server.shutdown()
    assert [(path, key) for path, key, _ in posted] == [("/api/v1/lineage", "Bearer s3cr3t")] * 2
    assert not [problem for _, _, event in posted for problem in problems(event)]


MARQUEZ = """
import gzip, http.server, json, sys, time
mode, kept = sys.argv[1:]
class Lineage(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        known = self.path == "/api/v1/lineage" and json.loads(body)["eventType"]
        if mode == "slow":
            time.sleep(60)
        if mode == "accepts" and known:
            print(body.decode(), file=open(kept, "a"))
        self.send_response(500 if mode == "fails" else 201 if known else 404)
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Lineage)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.mark.parametrize("mode", ["accepts", "slow", "fails", "absent"])
def test_a_run_waits_for_a_server_a_bounded_time(
    mode: str,
    sent: Sent,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(catalogue, "PATIENCE", 2.0)
    for name in ("TYPE", "LOG_FILE_PATH", "APPEND"):
        monkeypatch.delenv(f"OPENLINEAGE__TRANSPORT__{name}")
    kept = tmp_path / "kept.jsonl"
    command = [sys.executable, "-c", MARQUEZ, mode, str(kept)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = {"OPENLINEAGE_URL": f"http://127.0.0.1:{server.stdout.readline().strip()}"}
        if mode == "absent":
            server.kill()
            server.wait()
        with (
            mock.patch.dict(os.environ, address),
            caplog.at_level(logging.WARNING, logger="flows.catalogue"),
        ):
            run = Catalogue("m", PARENT)
            began = time.monotonic()
            for _ in range(3):
                with run.stage("use") as tell:
                    tell()
            with run.decisions():
                pass
            took = time.monotonic() - began
        server.kill()
    said = [r.getMessage() for r in caplog.records if r.name == "flows.catalogue"]
    if mode == "accepts":
        assert said == []
        assert [json.loads(line)["eventType"] for line in kept.read_text().splitlines()] == [
            *("START", "COMPLETE") * 3
        ]
    else:
        (line,) = said
        assert line.startswith("OpenLineage events are ")
        assert took < 2 + 3  # its patience, and what it takes to describe six events


def test_edges_lead_from_the_data_to_the_champion(sent: Sent) -> None:
    run = Catalogue("m", PARENT)
    for stage in ("prepare", "use"):
        workspace.reproduce(stage, lambda line: None)
        with run.stage(stage) as tell:
            tell()
    ledger, files = Ledger(), {"student.onnx": "0" * 64}
    with run.decisions():
        ledger.append(Entry("m", Event.REGISTERED, 1, "ann", "made", {"files": files}))
        ledger.append(Entry("m", Event.GATED, 1, "ann", "passed", {}))
        ledger.append(Entry("m", Event.PROMOTED, 1, "ann", "passed", {}))
    done = [event for event in sent() if event["eventType"] == "COMPLETE"]
    edges = {
        event["job"]["name"]: [{d["name"] for d in event[side]} for side in ("inputs", "outputs")]
        for event in done
    }
    assert edges == {
        "prepare": [{"table.parquet"}, {MANIFEST}],
        "use": [{MANIFEST}, {"runs/use.txt"}],
        "registered": [{"runs/export/student.onnx"}, {"version/1"}],
        "gated": [{"version/1"}, set()],
        "promoted": [{"version/1"}, {"champion"}],
    }
    assert not [problem for event in done for problem in problems(event)]


@pytest.mark.parametrize(
    "setting",
    [
        {"OPENLINEAGE_URL": "http://127.0.0.1:9"},
        {"OPENLINEAGE__TRANSPORT__TYPE": "nonsense"},
        {"OPENLINEAGE__TRANSPORT__TYPE": "file"},  # without a path
        {"OPENLINEAGE_CONFIG": "/nowhere.yml", "OPENLINEAGE__TRANSPORT__TYPE": "http"},
    ],
)
def test_a_catalogue_that_does_not_answer_is_one_warning(
    made: Path,
    setting: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(made)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's own tries
    with (
        mock.patch.dict(os.environ, setting),
        caplog.at_level(logging.WARNING, logger="flows.catalogue"),
    ):
        run = Catalogue("m", PARENT)
        for _ in range(2):
            with run.stage("use") as tell:
                tell()
            with run.decisions():
                pass
    assert len([r for r in caplog.records if r.name == "flows.catalogue"]) == 1


def test_without_a_setting_nothing_is_imported(made: Path) -> None:
    code = (
        "import sys; from flows.catalogue import Catalogue\n"
        "with Catalogue('m', 'x').stage('use') as tell, Catalogue('m').decisions(): tell()\n"
        "print([n for n in ('openlineage', 'mlflow', 'torch', 'sqlalchemy') if n in sys.modules])"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith("OPENLINEAGE")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=clean, check=True)
    assert done.stdout.strip() == "[]"
