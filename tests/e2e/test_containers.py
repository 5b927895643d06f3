"""The images of infra/, built and run: `make containers`, and in `make verify`.

Needs an account that may use podman (root) and Debian's podman, buildah, runc and mmdebstrap.
"""

from __future__ import annotations

import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from containers_support import Engine, build, build_postgres, engine
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from e2e_support import Workspace
from small_students import small_student

from components.export.onnx import save

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
    assert "://" not in history
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


@dataclass(frozen=True)
class Composed:
    """The compose file, up."""

    podman: Engine
    options: list[str]

    def compose(self, *command: str) -> str:
        """podman-compose."""
        composer = ("podman-compose", "--project-name", PROJECT, *self.options)
        return self.podman.run(*composer, *command, seconds=1800)


@pytest.fixture(scope="module")
def stack(podman: Engine) -> Iterator[Composed]:
    """The stack of infra/compose.yaml, once all of it is healthy."""
    build_postgres(podman)
    for target in ("servers", "pipeline"):
        build(podman, target)
    made = Composed(podman, ["--env-file", str(settings(podman.folder)), "--file", COMPOSE])
    try:
        made.compose("up", "--detach")
        for name in ("postgres", "s3", "mlflow", "prefect", "worker"):
            podman.wait_healthy(f"{PROJECT}_{name}_1", 600)
        yield made
    finally:
        made.compose("down", "--volumes")


def settings(folder: Path) -> Path:
    """Secrets in the form of infra/.env."""
    password = secrets.token_hex(8)
    values = {
        "IML_POSTGRES_PASSWORD": password,
        "AWS_ACCESS_KEY_ID": "iml",
        "AWS_SECRET_ACCESS_KEY": password,
        "PREFECT_API_AUTH_STRING": f"admin:{password}",
        "IML_REPOSITORY": "/state/project.git",
        "IML_NOTIFY": "",
    }
    path = folder / "env"
    path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    return path


def test_the_compose_file_comes_up_on_loopback_and_goes_down(stack: Composed) -> None:
    for port in (5000, 4200):
        assert f"127.0.0.1:{port}->" in stack.podman.run("podman", "ps", "--format", "{{.Ports}}")
    # Health is the fixture's to wait for; a stranger to Prefect is refused.
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen("http://127.0.0.1:4200/api/deployments/count", timeout=20)
