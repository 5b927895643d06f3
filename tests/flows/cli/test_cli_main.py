"""What all commands share: where they may be run, and how Ctrl-C ends them."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
from PIL import Image
from typer.testing import CliRunner

from components.core.errors import InputError, InterruptError
from flows.cli.main import app

COMMANDS = [
    ["run"],
    ["predict", "photos/photo.jpg"],
    ["score", "photos"],
    ["audit"],
    ["replay"],
    ["drift", "then.csv", "now.csv"],
    ["dataset", "info", "demo"],
    ["dataset", "check", "demo"],
    ["dataset", "import", "photos", "--name", "mine"],
    ["teacher", "list"],
    ["model", "list"],
    ["model", "show", "boxpromptiml/1"],
    ["model", "history"],
    ["model", "register"],
    ["model", "promote", "boxpromptiml/1"],
    ["model", "approve", "boxpromptiml/1", "--reason", "x"],
    ["model", "rollback", "boxpromptiml/1", "--reason", "x"],
    ["lineage", "show", "boxpromptiml/1"],
    ["lineage", "diff", "boxpromptiml/1", "boxpromptiml/2"],
    ["lineage", "export", "boxpromptiml/1"],
    ["stack", "up"],
    ["stack", "status"],
    ["stack", "down"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_outside_the_project_nothing_is_made(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IML_STATE")
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "photos/photo.jpg")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, InputError), (result.output, result.exception)
    assert result.exception.line() == "params.yaml: no such file; run this in the project's folder"
    assert [path.name for path in tmp_path.rglob("*")] == ["photos", "photo.jpg"]


def test_ctrl_c_is_one_line_and_its_own_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with mock.patch("components.core.params.load", side_effect=KeyboardInterrupt):
        result = CliRunner().invoke(app, ["run"])
    assert isinstance(result.exception, InterruptError)
    assert result.exception.exit_code == 130
    assert "run the same command again" in result.exception.line()
