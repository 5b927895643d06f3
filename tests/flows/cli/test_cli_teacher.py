from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from components.pseudo_label.registry import downloadable
from flows.cli.teacher import app

ROOT = Path(__file__).parents[3]


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
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.stdout


def _fetch(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = "from components.core.errors import exit_on_error\nfrom flows.cli.teacher import app\n"
    code += "with exit_on_error():\n    app()"
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, "-c", code, "fetch", name],
        env=env,
        text=True,
        capture_output=True,
        check=False,
    )
