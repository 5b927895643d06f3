"""The images of infra/, built and run: `make containers`, and in `make verify`.

Needs an account that may use podman (root) and Debian's podman, buildah, runc and mmdebstrap.
"""

from __future__ import annotations

import json
import secrets
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from containers_support import Engine, build, build_postgres, engine
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from e2e_support import Workspace
from small_students import small_student
from tls_proxy import certify

from components.export.onnx import save
from flows.stack import accounts

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(7200)]
IMAGE = "localhost/boxpromptiml-{}"
LIMIT = 600e6  # bytes of the image that serves
PROJECT = "imltest"
COMPOSE = "infra/compose.yaml"


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory, campaigns: bool) -> Engine:
    """The container engine."""
    if not campaigns:
        pytest.skip("builds images; `make containers` runs it")
    return engine(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="module")
def serve(podman: Engine) -> dict:
    """The serving image's bill of materials."""
    return json.loads(build(podman, "serve").read_text())


def photo_of(workspace: Workspace) -> str:
    """The path of a manipulated photo of the data set."""
    return (
        f"data/demo/photos/{sorted(p.name for p in workspace.root.glob('data/demo/photos/*'))[0]}"
    )


def test_the_serving_image_is_small_and_holds_no_tools(
    podman: Engine, serve: dict, record_property: Callable
) -> None:
    shown = json.loads(podman.run("podman", "image", "inspect", IMAGE.format("serve")))[0]
    record_property("MB in the serving image", round(shown["Size"] / 1e6))
    assert shown["Size"] < LIMIT
    assert shown["Config"]["User"] == "10001:10001"
    tools = ("cc", "gcc", "make", "pip", "git")
    found = "import shutil, sys; print([n for n in sys.argv[1:] if shutil.which(n)])"
    assert podman.confined(IMAGE.format("serve"), "python", "-c", found, *tools).strip() == "[]"
    # What was lent to the build is in no layer.
    history = podman.run("podman", "history", "--no-trunc", IMAGE.format("serve"))
    assert "://" not in history.replace("http://127.0.0.1:8000/health", "")
    assert not [row for row in shown["Config"]["Env"] if row.upper().startswith("PIP_INDEX")]
    podman.confined(IMAGE.format("serve"), "test", "!", "-s", "/etc/pip.conf")


def test_the_bill_of_materials_is_valid_and_complete(serve: dict) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(serve)) is None
    purls = {row["purl"].partition("@")[0] for row in serve["components"]}
    assert {"pkg:deb/debian/libc6", "pkg:pypi/onnxruntime", "pkg:pypi/boxpromptiml"} <= purls
    assert not {"pkg:pypi/torch", "pkg:pypi/mlflow", "pkg:pypi/prefect"} & purls


def test_the_serving_image_predicts_without_root_network_or_a_disk(
    podman: Engine, serve: dict, workspace: Workspace, tmp_path: Path
) -> None:
    save(small_student().eval(), tmp_path / "student")
    photo = workspace.root / photo_of(workspace)
    tmp_path.chmod(0o755)
    asked = (
        "predict",
        f"/photos/{photo.name}",
        "--model",
        "/student",
        "--json",
        "--out",
        "/tmp/out",
    )
    mounts = {"photos": photo.parent, "student": tmp_path / "student"}
    inside = json.loads(podman.confined(IMAGE.format("serve"), "iml", *asked, **mounts))
    there = ("predict", str(photo), "--model", str(tmp_path / "student"), "--json", "--out")
    outside = json.loads(workspace.iml(*there, str(tmp_path / "out")).stdout)
    assert answers(inside) == answers(outside)


def answers(said: dict) -> list[tuple]:
    """What was said of the photos, without paths and times."""
    return [(row["score"], row["area"]) for row in said["photos"]]


def answer(photo: Path, port: int = 8000) -> dict:
    """What a server of the serving image says of a photo."""
    kind = {"Content-Type": "image/jpeg"}
    address = f"http://127.0.0.1:{port}/predict"
    said = httpx.post(address, content=photo.read_bytes(), headers=kind, timeout=60)
    assert said.status_code == 200, said.text
    return said.json()


def test_the_serving_image_serves_what_is_predicted_outside_and_comes_back_when_killed(
    podman: Engine, serve: dict, workspace: Workspace, tmp_path: Path, free_port: int
) -> None:
    save(small_student().eval(), tmp_path / "student")
    tmp_path.chmod(0o755)
    photo = workspace.root / photo_of(workspace)
    there = ("predict", str(photo), "--model", str(tmp_path / "student"), "--json", "--out")
    (outside,) = answers(json.loads(workspace.iml(*there, str(tmp_path / "out")).stdout))
    command = ("iml", "serve", "--host", "0.0.0.0", "--model", "/student")
    podman.run(
        *("podman", "run", "--detach", "--name", "imltest-serve", "--restart", "unless-stopped"),
        *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--publish"),
        *(f"127.0.0.1:{free_port}:8000", f"--volume={tmp_path / 'student'}:/student:ro"),
        *(IMAGE.format("serve"), *command),
    )
    try:
        podman.wait_healthy("imltest-serve")
        for _ in range(2):
            said = answer(photo, free_port)
            assert (said["score"], said["area"]) == outside
            podman.kill("imltest-serve")
            podman.wait_healthy("imltest-serve")
    finally:
        podman.run("podman", "rm", "--force", "imltest-serve")


@dataclass(frozen=True)
class Composed:
    """The compose file, up, with a workspace deployed to it."""

    podman: Engine
    options: list[str]
    origin: Path

    def up(self, *services: str, profile: str = "") -> None:
        """Start services, in no order: each tries again until those that it needs answer.

        podman starts nothing that waits for a finished container which needed a running one, and
        before 4.6 waits for no health check.
        """
        self.compose("--profile", profile, "up", "--detach", "--no-deps", *services)

    def compose(self, *command: str) -> str:
        """podman-compose."""
        composer = ("podman-compose", "--project-name", PROJECT, *self.options)
        return self.podman.run(*composer, *command, seconds=1800)

    def work(self, *command: str, code: int | None = 0) -> str:
        """A command in the worker's container, in the repository that runs clone."""
        inside = ("podman", "exec", "--workdir", "/origin", f"{PROJECT}_worker_1")
        return self.podman.run(*inside, *command, code=code, seconds=1800)


@pytest.fixture(scope="module")
def stack(
    podman: Engine, serve: dict, workspace: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Composed]:
    """The stack of infra/compose.yaml, once all of it is healthy, deployed from the workspace."""
    build_postgres(podman)
    for target in ("servers", "pipeline"):
        build(podman, target)
    origin = tmp_path_factory.mktemp("origin") / "project"
    shutil.copytree(workspace.root, origin, symlinks=True)
    subprocess.run(["chown", "--recursive", "10001:10001", origin.parent], check=True)
    made = Composed(podman, settings(podman.folder, origin), origin)
    try:
        made.up()
        for name in ("postgres", "s3", "mlflow", "prefect", "worker"):
            podman.wait_healthy(f"{PROJECT}_{name}_1", 600)
        made.work("dvc", "remote", "add", "--local", "--default", "shared", "s3://dvc")
        made.work("dvc", "push", "--quiet")
        # A worker answers as healthy before it has made its pool.
        made.work("prefect", "work-pool", "create", "--overwrite", "--type", "process", "retrain")
        plan = ("--all", "--prefect-file", "infra/prefect.yaml")
        made.work("prefect", "--no-prompt", "deploy", *plan)
        yield made
    finally:
        made.compose("--profile", "serve", "--profile", "tls", "down", "--volumes")


def settings(folder: Path, origin: Path) -> list[str]:
    """Secrets in the form of infra/.env, and what differs here: the repository is a folder."""
    certificates = folder / "certificates"
    certificates.mkdir(mode=0o755)
    certify(certificates)
    subprocess.run(["chown", "--recursive", "10001:10001", certificates], check=True)
    values = {
        "IML_POSTGRES_PASSWORD": secrets.token_hex(8),
        "IML_FLOWS_PASSWORD": secrets.token_hex(8),
        "IML_PEOPLE_PASSWORD": secrets.token_hex(8),
        **{name: secrets.token_hex(8) for name in accounts.PASSWORDS.values()},
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(8),
        "AWS_ACCESS_KEY_ID": "iml",
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(8),
        "PREFECT_API_AUTH_STRING": f"admin:{secrets.token_hex(8)}",
        "IML_REPOSITORY": "/origin",
        "IML_NOTIFY": "",
        "IML_CERTIFICATES": str(certificates),
        "IML_MLFLOW_PAGE": "",
        "IML_PREFECT_PAGE": "",
    }

    (folder / "env").write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    changes = {"services": {"worker": {"volumes": [f"{origin}:/origin"]}}}
    (folder / "changes.yaml").write_text(yaml.safe_dump(changes))
    files = (COMPOSE, str(folder / "changes.yaml"))
    return ["--env-file", str(folder / "env"), *(f"--file={name}" for name in files)]


def test_the_compose_file_comes_up_on_loopback_and_goes_down(stack: Composed) -> None:
    for port in (5000, 4200):
        assert f"127.0.0.1:{port}->" in stack.podman.run("podman", "ps", "--format", "{{.Ports}}")
    # Health is the fixture's to wait for; a stranger is refused.
    asked = ("4200/api/deployments/count", "5000/api/2.0/mlflow/experiments/search?max_results=1")
    for place in asked:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://127.0.0.1:{place}", timeout=20)


def test_others_come_in_by_tls_alone(stack: Composed) -> None:
    stack.up("proxy", profile="tls")
    stack.podman.wait_healthy(f"{PROJECT}_proxy_1")
    trusting = ssl.create_default_context(cafile=stack.podman.folder / "certificates/tls.crt")
    pages = {5443: "/api/2.0/mlflow/experiments/search?max_results=1", 4243: "/api/version"}
    for port, page in pages.items():
        answer = httpx.get(f"https://localhost:{port}{page}", verify=trusting, timeout=60)
        assert answer.status_code == 401


def test_a_retraining_in_containers_has_the_hashes_of_one_outside(
    stack: Composed, workspace: Workspace, record_property: Callable
) -> None:
    begun = time.monotonic()
    said = stack.work("prefect", "deployment", "run", "retrain/nightly", "--watch", code=None)
    record_property("seconds of a retraining in containers", round(time.monotonic() - begun))
    log = stack.podman.run("podman", "logs", "--tail", "60", f"{PROJECT}_worker_1", code=None)
    assert "Completed" in said, said + log
    assert "boxpromptiml/1 is verified" in stack.work("iml", "audit", "boxpromptiml/1", "--deep")
    inside = yaml.safe_load(stack.work("git", "show", "retrain:dvc.lock"))
    workspace.run("dvc", "repro", "--quiet")
    outside = yaml.safe_load((workspace.root / "dvc.lock").read_text())
    outputs = [
        {
            (name, out["path"]): out["md5"]
            for name, stage in lock["stages"].items()
            for out in stage["outs"]
        }
        for lock in (inside, outside)
    ]
    assert outputs[0] == outputs[1]


def test_the_serving_container_answers_with_the_champion_made_there(
    stack: Composed, workspace: Workspace, tmp_path: Path
) -> None:
    assert "champion" in stack.compose("--profile", "people", "run", "--rm", "people")
    stack.up("serve", profile="serve")
    stack.podman.wait_healthy(f"{PROJECT}_serve_1")
    photo = workspace.root / photo_of(workspace)
    said = answer(photo)
    assert (said["model"], said["version"]) == ("boxpromptiml", 1)
    there = ("predict", str(photo), "--model", "runs/export", "--json", "--out", str(tmp_path))
    assert [(said["score"], said["area"])] == answers(json.loads(workspace.iml(*there).stdout))
    # What it has fetched it goes on serving without MLflow, also when it starts again.
    stack.podman.run("podman", "stop", f"{PROJECT}_mlflow_1")
    stack.podman.kill(f"{PROJECT}_serve_1")
    stack.podman.wait_healthy(f"{PROJECT}_serve_1")
    assert answer(photo)["score"] == said["score"]
