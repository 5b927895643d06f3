from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grimp
import pandas as pd
import pytest
import yaml
from edits import behind, edited

from components.core.files import sha256_file
from components.distill.cache import decoded
from components.distill.run import CODE, training_key
from components.student import store
from components.student.model import build, configure

ROOT = Path(__file__).parents[3]
FILES = ("student.safetensors", "student.json", "history.csv", "summary.json")


def write_params(folder: Path, **changes: object) -> None:
    """The committed parameters with a small student."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["prepare"]["datasets"] = ["tiny"]
    values["evaluate"]["datasets"] = ["tiny"]
    small = {"weights": "none", "size": 64, "channels": 8, "prototypes": 4}
    student = values["distill"]["student"]
    student |= small | {key: changes.pop(key) for key in [*changes] if key in student}
    values["distill"] |= {"threads": 1, "epochs": 3, "batch": 4} | changes
    values["export"]["sizes"] = [[64, 64], [96, 64]]
    (folder / "params.yaml").write_text(yaml.safe_dump(values))


def stage(name: str, folder: Path, state: Path, processes: int = 1) -> subprocess.Popen:
    command = [sys.executable, "-W", "ignore"]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(processes)]
    return subprocess.Popen(
        [*command, "-m", f"components.{name}"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "IML_STATE": str(state)},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen) -> tuple[int, str]:
    _, err = process.communicate(timeout=300)
    return process.returncode, err


def hashes(folder: Path) -> dict[str, str]:
    return {name: sha256_file(folder / "runs/distill" / name) for name in FILES}


def test_killed_and_started_again_equals_uninterrupted(made):
    write_params(made.root)
    code, err = finish(stage("distill", made.root, made.root / "one"))
    assert code == 0, err
    assert [line.split("  ")[0] for line in err.splitlines()] == [f"epoch {n}/3" for n in (1, 2, 3)]
    expected = hashes(made.root)
    for name in FILES:
        (made.root / "runs/distill" / name).unlink()

    process, deadline = stage("distill", made.root, made.root / "two"), time.monotonic() + 200
    while not list((made.root / "two").rglob("epoch-0001.json")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (made.root / "runs/distill/student.json").exists()

    code, err = finish(stage("distill", made.root, made.root / "two"))
    assert code == 0, err
    assert "resumed after epoch" in err
    assert hashes(made.root) == expected

    code, err = finish(stage("export", made.root, made.root / "two"))
    assert code == 0, err
    assert {path.name for path in (made.root / "runs/export").iterdir()} == {
        "student.safetensors",
        "student.json",
        "student.onnx",
        "parity.json",
    }


def test_two_processes_train_the_student_of_one(made):
    write_params(made.root, ema=0.9, epochs=2, learning_rate=0.0001)  # Adam enlarges what differs
    found = []
    for processes in (1, 2):
        code, err = finish(stage("distill", made.root, made.root / str(processes), processes))
        assert code == 0, err
        history = pd.read_csv(made.root / "runs/distill/history.csv")
        found.append((history, store.load(made.root / "runs/distill").config))
    (one, config), (two, other) = found
    pd.testing.assert_frame_equal(two, one, rtol=1e-3)
    assert other.temperature == pytest.approx(config.temperature, rel=1e-2)
    assert other.image_threshold == pytest.approx(config.image_threshold, rel=1e-2)


def test_more_processes_than_photos_in_a_batch_is_one_line(made):
    write_params(made.root, batch=1)
    code, err = finish(stage("distill", made.root, made.root / "state", 2))
    assert code != 0
    assert "2 processes, but batches of 1 photos" in err


def test_bad_input_is_one_line_and_exit_code_2(made):
    write_params(made.root, backbone="no_such_net")
    code, err = finish(stage("distill", made.root, made.root / "state"))
    assert code == 2
    assert err.count("\n") == 1
    assert "distill.student.backbone: timm has no network 'no_such_net'" in err


@pytest.fixture
def data(made, tmp_path, settings):
    examples = made.examples()
    return decoded(examples, settings(), tmp_path / "arrays")


@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"learning_rate": 0.01}, {"epochs": 9}, {"augment": False}]
)
def test_another_parameter_is_another_training(settings, data, change):
    student = build(configure(settings().student), "none")
    key = training_key(student, data, settings(), 1)
    assert training_key(student, data, settings(), 1) == key
    assert training_key(student, data, settings(**change), 1) != key
    assert training_key(student, data, settings(), 2) != key
    for other in ({"key": "e"}, {"weights": data.weights * 2}):
        assert training_key(student, dataclasses.replace(data, **other), settings(), 1) != key


def test_copies_train_nothing_again(settings, data):
    with_them = settings().student.model_copy(update={"copies": True})
    student, same = (build(configure(one), "none") for one in (settings().student, with_them))
    same.load_state_dict(student.state_dict())
    told = settings().model_copy(update={"student": with_them})
    assert training_key(same, data, told, 1) == training_key(student, data, settings(), 1)


def test_other_first_weights_are_another_training(settings, data):
    one, other = (build(configure(settings().student), weights) for weights in ("none", "package"))
    assert training_key(one, data, settings(), 1) != training_key(other, data, settings(), 1)


BESIDE = {  # they read, store, report, or build what is in the key by its content
    *(f"components.core.{name}" for name in ("code", "errors", "files", "images", "params")),
    *(f"components.core.{name}" for name in ("paths", "progress", "stream", "weights")),
    "components.data.manifest",
    *(f"components.distill.{name}" for name in ("cache", "checkpoint", "examples", "progress")),
    "components.student.backbones",
    "components.student.copies",  # beside the network's answer, which is what training looks at
}


def test_key_covers_every_module_behind_a_training():
    graph = grimp.build_graph("components", cache_dir=None)
    assert behind(graph, "components.distill.trainer") - BESIDE == {*CODE}


@pytest.mark.parametrize(
    ("module", "again"),
    [*((module, True) for module in CODE), *((module, False) for module in sorted(BESIDE))],
)
def test_another_line_where_steps_are_made_is_another_training(
    settings, data, monkeypatch, module, again
):
    student = build(configure(settings().student), "none")
    key = training_key(student, data, settings(), 1)
    edited(monkeypatch, module)
    assert (training_key(student, data, settings(), 1) != key) == again


def test_another_normalisation_is_another_training(settings, data):
    student = build(configure(settings().student), "none")
    key = training_key(student, data, settings(), 1)
    student.config = student.config.model_copy(update={"mean": (0.1, 0.2, 0.3)})
    assert training_key(student, data, settings(), 1) != key
