"""The attacks of docs/DEPLOYMENT.md on the running stack of `iml stack up`, its real servers.

Strangers are another account of the machine, so root is needed to be one; `--campaigns`.
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import psutil
import psycopg2
import pytest
from production_support import free_ports
from project import ROOT
from tls_proxy import proxied

from components.registry.chain import Event
from components.registry.ledger import Entry, Ledger
from flows.stack import accounts

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
SERVICES = ("POSTGRES", "S3", "MLFLOW", "PREFECT")
API = "/api/2.0/mlflow"
FILES = "/api/2.0/mlflow-artifacts/artifacts"
# What another account runs: the requests of its input, each answered by a status.
_CALLS = r"""
import json, sys, urllib.error, urllib.request
for method, url, headers, body in json.load(sys.stdin):
    data = None if body is None else body.encode()
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        print(urllib.request.urlopen(request, timeout=60).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""


@dataclass(frozen=True)
class Stack:
    """The servers, and the settings of who owns them."""

    folder: Path
    environment: dict[str, str]

    def basic(self, account: str | None) -> tuple[str, str] | None:
        """An account of MLflow with its password; a name that is none of them has a wrong one."""
        if account is None:
            return None
        return account, self.environment.get(
            accounts.PASSWORDS.get(account, ""), "guessed-password"
        )

    def mlflow(self, account: str | None, method: str, path: str, **more: Any) -> httpx.Response:
        """A request to MLflow."""
        address = self.environment["MLFLOW_TRACKING_URI"]
        return httpx.request(
            method, f"{address}{path}", auth=self.basic(account), timeout=120, **more
        )

    def ledger(self, role: str) -> str:
        """The ledger's address for a role."""
        return self.environment[
            {"iml_flows": "IML_LEDGER_URL", "iml_people": "IML_LEDGER_READ_URL"}[role]
        ]

    def secrets(self) -> list[str]:
        """Every password and key."""
        marks = ("PASSWORD", "SECRET", "AUTH_STRING")
        found = [v for k, v in self.environment.items() if any(mark in k for mark in marks)]
        return [value.partition(":")[2] or value for value in found]

    def processes(self) -> list[psutil.Process]:
        """The services and what they have started."""
        rows = json.loads(self.iml("stack", "status", "--json"))
        firsts = [psutil.Process(row["pid"]) for row in rows]
        return [process for first in firsts for process in (first, *first.children(recursive=True))]

    def iml(self, *command: str, tries: int = 1) -> str:
        """The command line, with the owner's settings."""
        program = [sys.executable, "-c", "from flows.cli.main import main; main()", *command]
        given = {**os.environ, "PYTHONPATH": str(ROOT), **self.environment}
        for _ in range(tries):
            done = subprocess.run(
                program, env=given, cwd=ROOT, capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                break
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def stack(campaigns: bool) -> Iterator[Stack]:
    if not campaigns or os.getuid():
        pytest.skip("starts the whole stack, and needs root to be another account: --campaigns")
    # Not pytest's folder, which other accounts cannot enter.
    home = Path(tempfile.mkdtemp(prefix="iml-attacks-", dir="/tmp"))
    home.chmod(0o755)
    ports = zip(SERVICES, free_ports(4), strict=True)
    made = Stack(
        home / "state/stack",
        {
            **{f"IML_{name}_PORT": str(port) for name, port in ports},
            "IML_POSTGRES_DATA": str(home / "data"),
            "IML_STATE": str(home / "state"),
        },
    )
    try:
        made.iml("stack", "up", tries=3)  # a busy machine takes longer than one of them waits
        rows = (made.folder / "environment").read_text().splitlines()
        pairs = (row.partition("=") for row in rows)
        made.environment.update({name: "".join(shlex.split(value)) for name, _, value in pairs})
        yield made
    finally:
        made.iml("stack", "down")
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def run(stack: Stack) -> dict[str, str]:
    """A run and a version, made by the account that may."""
    asked = stack.mlflow("runs", "POST", f"{API}/experiments/create", json={"name": "attacked"})
    number = asked.json()["experiment_id"]
    made = stack.mlflow("runs", "POST", f"{API}/runs/create", json={"experiment_id": number})
    info = made.json()["run"]["info"]
    model = {"name": "attacked"}
    assert stack.mlflow("runs", "POST", f"{API}/registered-models/create", json=model).is_success
    version = {**model, "source": info["artifact_uri"], "run_id": info["run_id"]}
    assert stack.mlflow("runs", "POST", f"{API}/model-versions/create", json=version).is_success
    return {"experiment": number, "run": info["run_id"]}


def as_stranger(
    command: list[str], given: str = "", **environment: str
) -> subprocess.CompletedProcess:
    """Run a command as the account `nobody`."""
    return subprocess.run(
        command,
        input=given,
        env={"PATH": "/usr/bin:/bin", **environment},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        user="nobody",
        group="nogroup",
        extra_groups=[],
    )


def statuses(requests: list[tuple[str, str, dict[str, str], str | None]]) -> list[int]:
    """What a stranger's requests are answered with."""
    done = as_stranger(["/usr/bin/python3", "-c", _CALLS], json.dumps(requests))
    assert done.returncode == 0, done.stderr
    return [int(row) for row in done.stdout.split()]


def guessed(account: str) -> dict[str, str]:
    token = base64.b64encode(f"{account}:guessed-password".encode()).decode()
    return {"Authorization": f"Basic {token}"}


def test_a_stranger_learns_and_changes_nothing_in_mlflow(stack: Stack) -> None:
    address, body = stack.environment["MLFLOW_TRACKING_URI"], '{"name": "x"}'
    plain = {"Content-Type": "application/json"}
    asked = [
        (method, f"{address}{path}", headers, sent)
        for headers in (plain, *({**plain, **guessed(name)} for name in ("admin", "runs")))
        for method, path, sent in (
            ("GET", f"{API}/experiments/search?max_results=1", None),
            ("GET", f"{API}/registered-models/search", None),
            ("POST", f"{API}/experiments/create", body),
            ("POST", f"{API}/registered-models/create", body),
            ("GET", f"{FILES}/0/x", None),
            ("PUT", f"{FILES}/0/x", "x"),
            ("POST", "/graphql", "{}"),
            ("POST", "/api/2.0/mlflow/users/create", body),
            ("GET", "/signup", None),
        )
    ]
    assert set(statuses(asked)) == {401}


def test_a_stranger_learns_and_starts_nothing_in_prefect(stack: Stack) -> None:
    address = stack.environment["PREFECT_API_URL"]
    plain = {"Content-Type": "application/json"}
    asked = [
        ("POST", f"{address}/{path}", {**plain, **headers}, "{}")
        for headers in ({}, guessed("admin"))
        for path in (
            "deployments/filter",
            "flow_runs/filter",
            "flow_runs/",
            "block_documents/filter",
        )
    ]
    assert set(statuses(asked)) == {401}


def test_a_stranger_reads_and_writes_nothing_in_s3(stack: Stack) -> None:
    address = stack.environment["AWS_ENDPOINT_URL"]
    forged = {"Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request"}
    asked = [
        (method, f"{address}/{path}", headers, sent)
        for headers in ({}, forged)
        for method, path, sent in (
            ("GET", "", None),
            ("GET", "dvc?list-type=2", None),
            ("PUT", "inbox/batch/complete", ""),
            ("DELETE", "dvc", None),
            ("POST", "_ministack/reset", ""),
        )
    ]
    answers = statuses(asked)
    assert set(answers) == {403}, list(zip(asked, answers, strict=True))


@pytest.mark.parametrize("role", ["iml", "iml_flows", "iml_people", "postgres"])
def test_a_stranger_does_not_get_into_postgresql(stack: Stack, role: str) -> None:
    port = stack.environment["IML_POSTGRES_PORT"]
    command = ["psql", "--host", "127.0.0.1", "--port", port, "--username", role, "ledger"]
    done = as_stranger([*command, "--command", "SELECT 1"], PGPASSWORD="guessed-password")
    assert (done.returncode, done.stdout) == (2, "")
    assert "password authentication failed" in done.stderr


def test_a_stranger_reads_no_setting_log_or_file(stack: Stack) -> None:
    places = [
        "environment",
        "logs",
        "s3",
        "supervisor",
        "supervisor/supervisord.conf",
        "logs/mlflow.log",
    ]
    paths = [str(stack.folder / name) for name in places] + [stack.environment["IML_POSTGRES_DATA"]]
    for path in paths:
        for command in (["ls", f"{path}/"], ["cat", path], ["cp", "/etc/hostname", path]):
            assert as_stranger(command).returncode != 0, (command, path)
    connecting = f"import socket; socket.socket(socket.AF_UNIX).connect({str(_socket(stack))!r})"
    refused = as_stranger(["/usr/bin/python3", "-c", connecting])
    assert "PermissionError" in refused.stderr


def _socket(stack: Stack) -> Path:
    """Where supervisord takes orders."""
    (found,) = (p for p in (stack.folder / "supervisor").iterdir() if p.is_socket())
    return found


def test_process_lists_show_no_secret_to_a_stranger(stack: Stack) -> None:
    processes = stack.processes()
    assert len(processes) >= len(SERVICES) + 1
    for process in processes:
        shown = as_stranger(["cat", f"/proc/{process.pid}/cmdline"]).stdout
        assert not [secret for secret in stack.secrets() if secret in shown]
        assert as_stranger(["cat", f"/proc/{process.pid}/environ"]).returncode != 0


def test_every_server_listens_on_loopback_alone(stack: Stack) -> None:
    listening = {
        connection.laddr.ip
        for process in stack.processes()
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


# Account, request and body; {experiment} and {run} are of another account.
FORBIDDEN = [
    *(
        (account, *request)
        for account in ("reader", "people")
        for request in (
            ("POST", f"{API}/runs/create", {"experiment_id": "{experiment}"}),
            ("POST", f"{API}/runs/log-metric",
             {"run_id": "{run}", "key": "f1", "value": 1, "timestamp": 1}),
            ("POST", f"{API}/runs/delete", {"run_id": "{run}"}),
            ("POST", f"{API}/experiments/delete", {"experiment_id": "{experiment}"}),
            ("PUT", f"{FILES}/{{experiment}}/{{run}}/artifacts/x", {}),
            ("DELETE", f"{API}/registered-models/delete", {"name": "attacked"}),
            ("DELETE", f"{API}/model-versions/delete", {"name": "attacked", "version": "1"}),
        )
    ),
    ("reader", "POST", f"{API}/registered-models/alias",
     {"name": "attacked", "alias": "champion", "version": "1"}),
    ("reader", "POST", f"{API}/model-versions/create", {"name": "attacked", "source": "x"}),
    ("reader", "POST", f"{API}/registered-models/set-tag",
     {"name": "attacked", "key": "ledger", "value": "x"}),
    *(
        (account, *request)
        for account in ("reader", "people", "runs")
        for request in (
            ("POST", f"{API}/users/create", {"username": "eve", "password": "long-password"}),
            ("PATCH", f"{API}/users/update-admin", {"username": "runs", "is_admin": True}),
            ("PATCH", f"{API}/users/update-password",
             {"username": "admin", "password": "long-password"}),
            ("POST", f"{API}/webhooks", {"name": "x", "url": "https://example.org", "events": []}),
            ("GET", f"{API}/webhooks", {}),
        )
    ),
]  # fmt: skip


def test_an_account_of_mlflow_does_no_more_than_its_own(stack: Stack, run: dict[str, str]) -> None:
    for account, method, path, body in FORBIDDEN:
        sent = {k: v.format(**run) if isinstance(v, str) else v for k, v in body.items()}
        answer = stack.mlflow(account, method, path.format(**run), json=sent)
        assert answer.status_code == 403, (account, method, path, answer.text)
    alias = {"name": "attacked", "alias": "looked-at", "version": "1"}
    assert stack.mlflow("people", "POST", f"{API}/registered-models/alias", json=alias).is_success


STATEMENTS = (
    "UPDATE ledger SET actor = 'eve'",
    "DELETE FROM ledger",
    "TRUNCATE ledger",
    "DROP TABLE ledger",
    "ALTER TABLE ledger DISABLE TRIGGER ALL",
    "CREATE TABLE mine (x int)",
    "CREATE OR REPLACE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "SET ROLE iml",
    "CREATE ROLE eve SUPERUSER",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT pg_read_file('/etc/passwd')",
)


@pytest.mark.parametrize("role", ["iml_flows", "iml_people"])
def test_the_ledger_is_appended_to_and_nothing_else(
    stack: Stack, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IML_STATE", stack.environment["IML_STATE"])  # whose key signs
    runs = Ledger(stack.ledger("iml_flows"))
    runs.append(Entry(f"m-{role}", Event.REGISTERED, 1, "ann", "because", {}))
    before = runs.rows(f"m-{role}")
    more = ("INSERT INTO ledger DEFAULT VALUES",) if role == "iml_people" else ()
    for statement in (*STATEMENTS, *more):
        connection = psycopg2.connect(stack.ledger(role))
        try:
            with pytest.raises(psycopg2.Error, match=r"denied|must be owner|superuser|append"):
                connection.cursor().execute(statement)
        finally:
            connection.close()
    assert runs.rows(f"m-{role}") == before


@pytest.mark.parametrize("account", ["runs", "admin"])
def test_no_path_leads_out_of_mlflows_artifacts(
    stack: Stack, run: dict[str, str], account: str, tmp_path: Path
) -> None:
    up = ("../" * 12, "%2e%2e/" * 12, "..%2f" * 12, "%252e%252e%252f" * 12, "/", "%2F", "..\\" * 9)
    inside = f"{run['experiment']}/{run['run']}/artifacts/"
    for prefix in ("", inside):
        for way in up:
            read = stack.mlflow(account, "GET", f"{FILES}/{prefix}{way}etc/passwd")
            assert read.status_code >= 400, way
            target = f"{FILES}/{prefix}{way}{str(tmp_path)[1:]}/written"
            stack.mlflow(account, "PUT", target, content=b"x")
    assert not (tmp_path / "written").exists()
    named = {"name": "attacked", "source": "file:///etc", "run_id": run["run"]}
    made = stack.mlflow(account, "POST", f"{API}/model-versions/create", json=named)
    assert made.status_code == 400


def test_no_key_leads_out_of_the_s3_folder(stack: Stack) -> None:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    keys = {name.lower(): stack.environment[name] for name in names}
    address = stack.environment["AWS_ENDPOINT_URL"]
    client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", **keys)
    home = stack.folder.parent.parent

    def files() -> set[Path]:
        return {p for p in home.rglob("written-*") if (stack.folder / "s3") not in p.parents}

    for number, up in enumerate(("../" * 3, "../" * 12 + str(home)[1:] + "/", "a/../../../")):
        try:
            client.put_object(Bucket="inbox", Key=f"{up}written-{number}", Body=b"x")
        except client.exceptions.ClientError:
            continue
    assert files() == set()


def test_a_foreign_page_or_name_is_refused(stack: Stack) -> None:
    """What a person's browser would send for a page of someone else."""
    search = f"{API}/experiments/search?max_results=1"
    rebound = stack.mlflow("runs", "GET", search, headers={"Host": "evil.example"})
    assert rebound.status_code == 403
    foreign = {"Origin": "https://evil.example"}
    crossed = stack.mlflow(
        "runs", "POST", f"{API}/experiments/create", headers=foreign, json={"name": "y"}
    )
    assert crossed.status_code == 403


def test_an_artifact_that_is_too_large_is_cut_off_by_the_proxy(
    stack: Stack, run: dict[str, str], tmp_path: Path
) -> None:
    behind = {
        name: f"127.0.0.1:{stack.environment[f'IML_{name.upper()}_PORT']}"
        for name in ("mlflow", "prefect")
    }
    path, account = f"{FILES}/{run['experiment']}/{run['run']}/artifacts/x", stack.basic("runs")
    with proxied(tmp_path, largest="1MB", **behind) as proxy:
        with proxy.client("mlflow") as client:
            assert client.get(path).status_code == 401
            assert client.put(path, auth=account, content=b"small").status_code == 200
            assert client.put(path, auth=account, content=b"x" * 3_000_000).status_code >= 400
            assert client.get(path, auth=account).content == b"small"
        with proxy.client("prefect") as client:
            assert client.post("/api/deployments/filter", json={}).status_code == 401
            owner = tuple(stack.environment["PREFECT_API_AUTH_STRING"].split(":"))
            assert client.post("/api/deployments/filter", json={}, auth=owner).status_code == 200


def test_logs_have_no_secret_and_no_forged_line(stack: Stack) -> None:
    forged = "x\nforged: the champion is version 9\r\n\x1b[31mforged"
    stack.mlflow("runs", "POST", f"{API}/experiments/create", json={"name": forged})
    stack.mlflow(
        "runs", "GET", f"{API}/experiments/get-by-name", params={"experiment_name": forged}
    )
    stack.mlflow(forged.encode("unicode_escape").decode(), "GET", f"{API}/experiments/search")
    owner = tuple(stack.environment["PREFECT_API_AUTH_STRING"].split(":"))
    for path in ("flows/", "work_pools/"):
        httpx.post(
            f"{stack.environment['PREFECT_API_URL']}/{path}", auth=owner, json={"name": forged}
        )
    httpx.get(f"{stack.environment['AWS_ENDPOINT_URL']}/inbox/x%0Aforged%1b[31m")
    logs = list((stack.folder / "logs").iterdir()) + list(
        (stack.folder / "supervisor").glob("*.log")
    )
    assert len(logs) > len(SERVICES)
    for log in logs:
        text = log.read_text(errors="replace")
        assert not [secret for secret in stack.secrets() if secret in text], log
        assert not [row for row in text.splitlines() if row.lstrip().startswith("forged")], log
        assert "\x1b[31mforged" not in text, log
