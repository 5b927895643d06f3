"""`iml teacher` and `iml student`: weights listed, fetched, pretrained from folders of pictures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from components.core import params
from components.core.errors import InputError
from components.core.files import sha256_file
from components.pseudo_label.registry import downloadable
from components.student.model import build, configure
from flows.cli.main import main
from flows.cli.weights import student, teacher

ROOT = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml, photos and cut-outs, to stand in."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for kind, channels in (("photos", 3), ("cutouts", 4)):
        Path(kind).mkdir()
        for n in range(20):
            cloud = rng.integers(0, 255, (9, 12, channels)).astype(np.uint8)
            cv2.imwrite(f"{kind}/{n}.png", cv2.resize(cloud, (160, 120)))
    return tmp_path


def test_folders_to_first_weights(project: Path) -> None:
    threads = torch.get_num_threads()
    options = ["--backbone", "mobilenetv3_small_050", "--steps", "2", "--every", "2"]
    options += ["--size", "64", "--batch", "2", "--json"]
    folders = ["--photos", "photos", "--cutouts", "cutouts", "--out", "made"]
    done = CliRunner().invoke(student, ["pretrain", *folders, *options])
    torch.set_num_threads(threads)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["backbone"] == "mobilenetv3_small_050"
    for name, facts in report["files"].items():
        assert sha256_file(project / "made" / name) == facts["sha256"]
        block = params.load().distill.student
        block = block.model_copy(update={"backbone": "mobilenetv3_small_050"})
        build(configure(block), f"made/{name}")


def test_a_folder_that_is_not_there(project: Path) -> None:
    done = CliRunner().invoke(student, ["pretrain", "--photos", "none", "--out", "made"])
    assert isinstance(done.exception, InputError)
    assert done.exception.line() == "none: no such folder"


@pytest.mark.parametrize("command", ["student pretrain", "teacher train"])
def test_nothing_to_hold_out_is_one_clear_line_before_any_work(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    for path in Path("cutouts").iterdir():
        if int(sha256_file(path)[:8], 16) % 7 == 0:
            path.unlink()
    given = [*command.split(), "--photos", "photos", "--cutouts", "cutouts", "--out", "made"]
    monkeypatch.setattr("sys.argv", ["iml", *given])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    (line,) = [text for text in capsys.readouterr().err.splitlines() if "error" in text]
    assert line.startswith("error: photos, cutouts: no cut-outs to hold out: ")
    assert not (project / "made").exists()


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("--size", "100", "distill.student.size: Input should be a multiple of 32, not 100"),
        (
            "--rate",
            "3",
            "distill.learning_rate: Input should be less than or equal to 1, not 3.0",
        ),
        ("--rate", "0", "distill.learning_rate: "),
        ("--backbone", "no such", "distill.student.backbone: "),
        ("--start", "", "distill.student.weights: "),
        ("--threads", "1000", "distill.threads: "),
    ],
)
def test_a_value_out_of_range_is_one_clear_line(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: str,
    value: str,
    complaint: str,
) -> None:
    monkeypatch.setattr("sys.argv", ["iml", "student", "pretrain", "--out", "made", option, value])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: iml student pretrain: {complaint}")
    assert not (project / "made").exists()


def test_list_as_json() -> None:
    rows = {row["name"]: row for row in json.loads(_output("list", "--json"))}
    assert {"box", "grabcut", "vit_b", "vit_l", "vit_h"} <= rows.keys()
    assert rows["grabcut"]["on_disk"] is None
    assert rows["vit_h"]["weights_bytes"] == downloadable("vit_h").size
    assert rows["vit_h"]["on_disk"] is False
    path = downloadable("vit_b").path
    path.parent.mkdir(parents=True)
    with open(path, "wb") as file:
        file.truncate(downloadable("vit_b").size)
    again = {row["name"]: row for row in json.loads(_output("list", "--json"))}
    assert again["vit_b"]["on_disk"] is True
    assert again["vit_b"]["path"] == str(path)


def test_list_as_a_table() -> None:
    text = _output("list")
    assert "grabcut" in text
    assert "2,565 MB" in text
    assert "Apache-2.0" in text


def test_fetch_without_a_server_is_one_line_and_exit_2(free_port: int) -> None:
    done = _fetch("vit_b", IML_SAM_MIRROR=f"http://127.0.0.1:{free_port}")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    error = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(error) == 1
    assert "pseudo_label.teacher: grabcut" in error[0]


def test_fetch_of_a_weight_free_teacher() -> None:
    done = _fetch("grabcut")
    assert done.returncode == 2
    assert "vit_b, vit_l, vit_h" in done.stderr


def _output(*arguments: str) -> str:
    done = CliRunner().invoke(teacher, list(arguments))
    assert done.exit_code == 0, done.output
    return done.stdout


def _fetch(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = "from flows.cli.main import main; main()"
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, "-c", code, "teacher", "fetch", name],
        env=env,
        text=True,
        capture_output=True,
        check=False,
    )
