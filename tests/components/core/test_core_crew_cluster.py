"""A real Ray cluster on loopback, two workers, one of which is killed; all that uses one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import boto3
import numpy as np
import psutil
import pytest
import ray
from evaluate_support import make_dataset as make_photos
from evaluate_support import params
from PIL import Image
from pseudo_label_support import make_dataset, tree
from small_students import small_student

from components.core.crew import Crew
from components.core.errors import CheckError, InputError
from components.data import scan
from components.data.manifest import write
from components.evaluate.run import evaluate
from components.export.onnx import save
from components.serving import score as scoring
from components.serving.origin import Student
from components.student.runtime import Runtime

ROOT = Path(__file__).parents[3]
__all__ = ["make_photos", "params"]  # fixtures


def silent(port: int) -> bool:
    """Whether nobody listens on a loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture(scope="module")
def cluster(_s3_server: str) -> Iterator[dict[str, str]]:
    """Addresses of a head node with two cores: as its node, and as its client from afar."""
    with socket.socket() as probe, socket.socket() as other:
        probe.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        port, client = probe.getsockname()[1], other.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # its sockets need a short path
    ray = str(Path(sys.executable).parent / "ray")
    command = [ray, "start", "--head", "--block", f"--port={port}", "--num-cpus=2"]
    command += [f"--ray-client-server-port={client}"]
    command += ["--node-ip-address=127.0.0.1", f"--temp-dir={folder}", "--include-dashboard=false"]
    head = subprocess.Popen(
        [*command, "--disable-usage-stats", "--object-store-memory=100000000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # A client's server takes half of the 30 s that it may, on two cores that are idle.
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "AWS_ENDPOINT_URL": _s3_server,  # a node has its own settings
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "150",
        },
    )
    deadline = time.monotonic() + 300
    while any(silent(number) for number in (port, client)):
        assert head.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    yield {"node": f"127.0.0.1:{port}", "client": f"ray://127.0.0.1:{client}"}
    family = psutil.Process(head.pid).children(recursive=True)
    os.killpg(head.pid, signal.SIGKILL)
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    head.wait()
    shutil.rmtree(folder, ignore_errors=True)


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (70, 90, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def workspace(root: Path, count: int) -> None:
    write(root / "runs" / "prepare", make_dataset(root / "data" / "demo", count).below("demo"))
    text = (ROOT / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("teacher: sam_lite", "teacher: grabcut"))


def stage(root: Path, address: str) -> subprocess.Popen:
    env = {**os.environ, "IML_STATE": str(root / "state"), "RAY_ADDRESS": address}
    return subprocess.Popen(
        [sys.executable, "-m", "components.pseudo_label"],
        cwd=root,
        env={**env, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def workers(kind: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if f"ray::{kind}" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def kill() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """As progress, kills one of two workers of a kind once; the cluster is left at the end."""
    killed = []

    def once(kind: str) -> Callable[[int, int], None]:
        def progress(done: int, total: int) -> None:
            if not killed:
                first, _ = workers(kind)
                first.kill()
                killed.append(done)
                assert done < total / 2

        return progress

    yield once
    ray.shutdown()
    assert killed


def test_a_lost_worker_changes_no_byte(cluster: dict[str, str], tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for root in (here, there):
        workspace(root, 120)
    out, error = stage(here, "").communicate(timeout=200)
    assert "120 photos labelled" in out, error
    run = stage(there, cluster["node"])
    entries = there / "state" / "cache" / "pseudo_label"
    while not list(entries.rglob("[!.]*.label")):
        assert run.poll() is None, run.communicate()
        time.sleep(0.01)
    found = workers("Labeller")
    assert len(found) == 2
    found[0].kill()
    out, error = run.communicate(timeout=200)
    assert "120 photos labelled" in out, error
    assert tree(here / "runs" / "pseudo_label") == tree(there / "runs" / "pseudo_label")
    assert tree(here / "state" / "cache") == tree(entries.parent)


@pytest.mark.parametrize("way", ["node", "client"])
def test_bad_photo_on_the_cluster_is_one_clear_line(
    cluster: dict[str, str], way: str, tmp_path: Path
) -> None:
    workspace(tmp_path, 3)
    (tmp_path / "data" / "demo" / "photos" / "p002.png").write_bytes(b"other bytes")
    run = stage(tmp_path, cluster[way])
    _, error = run.communicate(timeout=200)
    assert run.returncode == 2
    assert error.strip().splitlines()[-1].startswith("error: ")
    assert "p002.png: is not the photo of the manifest" in error
    assert "Traceback" not in error


def test_a_shard_that_kills_its_worker_has_a_second_try_and_ends_the_run(
    cluster: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = tmp_path / "tries"

    class Deadly:
        way = "processes"

        def identity(self) -> str:
            return "one kind"

        def work(self, shard: int) -> None:
            with open(tries, "a") as file:
                file.write("x")
            os._exit(1)

    monkeypatch.setenv("RAY_ADDRESS", cluster["node"])
    try:
        with pytest.raises(CheckError, match="the cluster failed"):
            list(Crew(Deadly, threads=2).map([1]))
    finally:
        ray.shutdown()
    assert tries.read_text() == "xx"


def test_nodes_that_differ_are_refused(
    cluster: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Node:
        way = "processes"

        def identity(self) -> int:
            return os.getpid()

        def work(self, shard: int) -> int:
            return shard

    monkeypatch.setenv("RAY_ADDRESS", cluster["node"])
    try:
        with pytest.raises(CheckError, match="the nodes differ"):
            next(Crew(Node, threads=1).map([1]))
    finally:
        ray.shutdown()


def test_scores_are_the_same_on_the_cluster(
    cluster: dict[str, str], tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = boto3.client("s3")
    client.create_bucket(Bucket="scored")
    for number in range(100):
        client.put_object(Bucket="scored", Key=f"in/{number:03}.jpg", Body=jpeg(number))
    student = tmp_path / "student"
    save(small_student(), student)
    given = Student(student, str(student), None)
    here, there = tmp_path / "here", tmp_path / "there"
    scoring.run(given, "s3://scored/in", here)
    monkeypatch.setenv("RAY_ADDRESS", cluster["node"])
    try:
        scoring.run(given, "s3://scored/in", there)
    finally:
        ray.shutdown()
    assert tree(here / "scores.parquet") == tree(there / "scores.parquet")
    assert tree(here / "overlays") == tree(there / "overlays")


def test_a_scan_is_the_same_on_the_cluster(
    cluster: dict[str, str], kill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1200):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number)[: 200 if number == 70 else None])
    mask = np.zeros((70, 90), np.uint8)
    mask[5:30, 40:60] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    names = [*map(str, range(1200)), "gone"]

    def found(progress: Callable[[int, int], None] | None) -> list[str]:
        jobs = (
            scan.Job.of(name, str(tmp_path / f"{name}.jpg"), str(tmp_path / "mask.png"), True, 1.0)
            for name in names
        )
        return [str(one) for one in scan.scan(jobs, len(names), 1.0, progress)]

    here = found(None)
    monkeypatch.setenv("RAY_ADDRESS", cluster["node"])
    there = found(kill("Looker"))
    assert there == here
    assert "damaged" in here[70]
    assert "no such file" in here[-1]


def test_figures_are_the_same_on_the_cluster(
    cluster: dict[str, str], kill, make_photos, params, tmp_path: Path, monkeypatch
) -> None:
    images, root = make_photos(manipulated=120, authentic=40, size=(70, 90))
    save(small_student(), tmp_path / "student")
    predict = Runtime(tmp_path / "student", params.threads).probabilities
    here = evaluate(predict, images, root, params)
    monkeypatch.setenv("RAY_ADDRESS", cluster["node"])
    there = evaluate(predict, images, root, params, kill("Judge"))
    assert json.dumps(there.metrics) == json.dumps(here.metrics)
    assert there.images.equals(here.images)


def test_a_model_that_cannot_leave_is_evaluated_here(
    free_port: int, make_photos, params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port}")
    images, root = make_photos()
    found = evaluate(
        lambda photos: [photo[..., 0] / np.float32(255) for photo in photos], images, root, params
    )
    assert found.metrics["f1"]["value"] == 1


def test_no_cluster_there_is_one_clear_line(
    free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port}")
    with pytest.raises(InputError, match="no Ray cluster answers"):
        Crew(object, threads=1)
