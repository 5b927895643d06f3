"""git and dvc for real, in a small workspace of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from components import workspace
from components.core.errors import CheckError, InputError, UnavailableError
from components.core.files import write_json
from components.workspace.processes import started

ROOT = Path(__file__).parents[3]
STAGES = {
    "last": {"cmd": "cat second > last", "deps": ["second"], "outs": ["last"]},
    "second": {"cmd": "echo told >&2; cat first > second", "deps": ["first"], "outs": ["second"]},
    "first": {"cmd": "cat source > first", "deps": ["source"], "outs": ["first"]},
    "refuses": {"cmd": "echo 'error: source: it is bad; hint it' >&2; exit 2", "deps": ["source"]},
    "crashes": {"cmd": "echo Traceback; echo boom; exit 1", "deps": ["source"]},
    "slow": {"cmd": "sleep 300", "deps": ["source"]},
}

WHO = ("-c", "user.name=Test", "-c", "user.email=test@example.org")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git and DVC repository with three stages in a row, written in the wrong order."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IML_STATE", str(tmp_path / ".state"))
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}, sort_keys=False))
    (tmp_path / "source").write_text("one")
    (tmp_path / ".gitignore").write_text(".state\n")
    quiet = {"check": True, "capture_output": True}
    subprocess.run(["git", "init", "-q"], **quiet)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], **quiet)
    subprocess.run(["git", "add", "."], **quiet)
    subprocess.run(["git", *WHO, "commit", "-qm", "start"], **quiet)
    return tmp_path


def test_stages_come_after_what_they_need(here: Path) -> None:
    names = workspace.stages()
    assert [n for n in names if n in ("first", "second", "last")] == ["first", "second", "last"]
    assert set(names) == set(STAGES)


def test_a_broken_pipeline_is_one_line(here: Path) -> None:
    (here / "dvc.yaml").write_text("stages: [")
    with pytest.raises(InputError, match=r"dvc\.yaml"):
        workspace.stages()


def test_a_stage_runs_once_and_tells_its_lines(here: Path) -> None:
    lines: list[str] = []
    assert workspace.reproduce("first", lines.append) is True
    assert workspace.reproduce("second", lines.append) is True
    # The stages' own lines, and none of DVC's hints for people who run it by hand.
    assert lines == [
        *("Running stage 'first':", "> cat source > first"),
        *("Running stage 'second':", "> echo told >&2; cat first > second", "told"),
    ]
    assert workspace.reproduce("second", lines.append) is False
    assert set(workspace.read_lock()["stages"]) == {"first", "second"}
    (here / "source").write_text("two")
    assert "first" in workspace.changed([])


def test_a_stage_that_refuses_passes_its_line_and_code_on(here: Path) -> None:
    with pytest.raises(workspace.StageError) as caught:
        workspace.reproduce("refuses", lambda line: None)
    assert caught.value.exit_code == 2
    assert caught.value.line() == "stage refuses: source: it is bad; hint it"


def test_a_stage_that_crashes_shows_its_last_lines(here: Path) -> None:
    with pytest.raises(workspace.StageError) as caught:
        workspace.reproduce("crashes", lambda line: None)
    assert caught.value.exit_code == 1
    assert "boom" in caught.value.line()
    assert "boom" in caught.value.last_lines


def test_git_tells_commit_and_changes(here: Path) -> None:
    assert len(workspace.git_commit()) == 40
    assert workspace.git_dirty() == []
    workspace.reproduce("first", lambda line: None)
    (here / "source").write_text("two")
    assert (here / "dvc.lock").is_file()
    assert workspace.git_dirty() == ["source"]


def test_a_file_that_was_removed_is_in_the_history(here: Path) -> None:
    endings = [f"/{n:02x}/{n:030x}" for n in range(100_000)]  # more than a command line takes
    assert workspace.in_history(endings) == ""
    object_file = here / f"störe{endings[-1]}"
    object_file.parent.mkdir(parents=True)
    object_file.write_text("a photo")
    for command in (
        ["git", "add", "--force", str(object_file)],
        ["git", *WHO, "commit", "-qm", "add"],
        ["git", "rm", "-q", str(object_file)],
        ["git", *WHO, "commit", "-qm", "remove"],
    ):
        subprocess.run(command, cwd=here, check=True)
    assert workspace.in_history(endings) == str(object_file.relative_to(here))


def write(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(f"weights: start/{'a' * 3}.safetensors\nlist: [{{file: b.pth}}]\n")


READ = [
    "components/extra.py", "components/pages/new.html", "flows/x.py", "params.yaml", "dvc.yaml",
    "data/street.dvc", "elsewhere/photos.dvc", ".dvc/config", ".dvcignore", "numpy.py", "cv2.so",
    "yaml/__init__.py", "start/aaa.safetensors", "b.pth", "source", "pyproject.toml",
]  # fmt: skip
UNREAD = [
    "triage/triage.html", "triage/overlays/a.png", "audit.html", "version-1.tar", "README.md",
    "docs/a.md", "tests/test_x.py", "notes/plot.py", "data/notes.txt", "zwei Wörter.txt",
    "Makefile", "infra/compose.yaml", "start/other.safetensors",
]  # fmt: skip


@pytest.mark.parametrize("state", ["untracked", "staged", "changed", "deleted"])
def test_what_no_run_reads_is_no_uncommitted_change(here: Path, state: str) -> None:
    workspace.reproduce("first", lambda line: None)
    git = ("git", "-c", "user.name=Test", "-c", "user.email=test@example.org")
    subprocess.run([*git, "rm", "--quiet", "source", "dvc.yaml", ".dvc/config", ".dvcignore"])
    subprocess.run([*git, "commit", "--quiet", "-m", "empty"], check=True)
    write(*READ, *UNREAD)
    if state != "untracked":
        subprocess.run([*git, "add", "--all"], check=True)
    if state in ("changed", "deleted"):
        subprocess.run([*git, "commit", "--quiet", "-m", "all of it"], check=True)
        assert workspace.git_dirty() == []
        for name in (*READ, *UNREAD):
            with Path(name).open("a") as file:
                file.write("more: 1\n")
    assert workspace.git_dirty() == sorted(READ)
    if state == "deleted":
        for name in {*READ, *UNREAD} - {"params.yaml"}:
            Path(name).unlink()
        assert workspace.git_dirty() == sorted(READ)


def test_links_to_what_is_kept_elsewhere_are_ignored(
    here: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (here / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in (".venv", "runs"):
        (here / name).symlink_to(elsewhere)
    listed = subprocess.run(
        ["git", "status", "--porcelain"], check=True, capture_output=True, text=True
    ).stdout
    assert ".venv" not in listed
    assert "runs" not in listed


def test_no_lock_yet(here: Path) -> None:
    with pytest.raises(InputError, match="iml run"):
        workspace.lock_text()


def test_a_remote_that_is_missing_is_one_line(here: Path) -> None:
    (here / "first").write_text("x")
    workspace.reproduce("first", lambda line: None)
    with pytest.raises(InputError, match=r"dvc push: .*no remote"):
        workspace.push([])


def test_a_remote_that_is_away_is_named(
    here: Path, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    workspace.dvc("remote", "add", "--default", "away", "s3://bucket")
    workspace.dvc("remote", "modify", "away", "endpointurl", f"http://127.0.0.1:{free_port}")
    (here / "data/set").mkdir(parents=True)
    (here / "data/set/photo").write_text("x")
    workspace.dvc_add(here / "data/set")
    with pytest.raises(UnavailableError, match=f"Could not connect.*{free_port}"):
        workspace.push(["set"])


def test_only_data_sets_that_are_named_count(here: Path) -> None:
    for name in ("named", "other"):
        (here / "data" / name).mkdir(parents=True)
        (here / "data" / name / "photo").write_text(name)
        workspace.dvc_add(here / "data" / name)
    shutil.rmtree(here / "data/other")
    (here / "data/named/photo").write_text("changed")
    found = workspace.changed(["named"])
    assert "data/named.dvc" in found
    assert "data/other.dvc" not in found
    workspace.require(["named"])
    with pytest.raises(InputError, match=r"data/other: the data set is absent; .*dvc pull") as told:
        workspace.require(["named", "other"])
    assert "data/other.dvc" in told.value.line()
    with pytest.raises(InputError, match=r"data/never: .*iml dataset import"):
        workspace.require(["never"])


def test_a_push_leaves_other_data_sets_alone(here: Path, tmp_path: Path) -> None:
    workspace.dvc("remote", "add", "--default", "folder", str(tmp_path / "remote"))
    for name in ("named", "other"):
        (here / "data" / name).mkdir(parents=True)
        (here / "data" / name / "photo").write_text(name)
        workspace.dvc_add(here / "data" / name)
    workspace.push(["named"])
    pushed = [path for path in (tmp_path / "remote").rglob("*") if path.is_file()]
    assert len(pushed) == 2  # one photo and its folder's listing


def test_no_repository_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="git repository that has a commit"):
        workspace.require([])
    subprocess.run(["git", "init", "-q"], check=True)
    with pytest.raises(InputError, match="git repository that has a commit"):
        workspace.require([])


def test_no_git_is_one_line(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(InputError, match="git is not installed; install git"):
        workspace.require([])


def test_a_dead_process_that_nobody_has_collected_blocks_no_run(here: Path) -> None:
    workspace.reproduce("first", lambda line: None)
    with subprocess.Popen(["true"], start_new_session=True) as dead:
        while psutil.Process(dead.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        blocked_by(here, dead.pid)
        with pytest.raises(CheckError, match="busy"):
            workspace.changed([])
        left = {"pid": dead.pid, "birth": started(dead.pid), "stage": "first"}
        write_json(here / ".state/running.json", left)
        with workspace.exclusive() as killed_in:
            assert killed_in == "first"
            assert "first" not in workspace.changed([])


def blocked_by(here: Path, pid: int) -> None:
    """As a DVC that was killed in this process's place has left it."""
    said = {"pid": pid, "cmd": "dvc repro"}
    write_json(here / ".dvc/tmp/rwlock", {"write": {str(here / "first"): said}})


def test_a_lock_whose_number_another_process_has_now_blocks_no_run(here: Path) -> None:
    workspace.reproduce("first", lambda line: None)
    blocked_by(here, os.getpid())  # alive, as it may be in a new container, and no DVC
    with pytest.raises(CheckError, match="busy"):
        workspace.changed([])
    with workspace.exclusive() as killed_in:
        assert killed_in is None
        assert "first" not in workspace.changed([])
    (here / ".dvc/tmp/rwlock").write_text('{"wri')  # killed while it wrote
    with pytest.raises(CheckError, match="corrupted"):
        workspace.changed([])
    with workspace.exclusive():
        assert "first" not in workspace.changed([])


def test_the_lock_of_a_dvc_at_work_is_respected(here: Path) -> None:
    workspace.reproduce("first", lambda line: None)
    script = here / "dvc"
    script.write_text("import time; time.sleep(60)")
    with subprocess.Popen([sys.executable, str(script)]) as person:
        try:
            blocked_by(here, person.pid)
            with workspace.exclusive(), pytest.raises(CheckError, match="busy"):
                workspace.changed([])
        finally:
            person.kill()


def test_one_run_at_a_time(here: Path) -> None:
    with workspace.exclusive():
        code = "from components import workspace as w\nwith w.exclusive(): pass"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "another run is working" in done.stderr
    with workspace.exclusive() as killed_in:
        assert killed_in is None


@pytest.mark.parametrize("with_dvc", [False, True])
def test_what_a_killed_run_left_behind_is_ended(here: Path, with_dvc: bool) -> None:
    code = "from components import workspace as w\nw.reproduce('slow', print)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not (left := sleepers(here)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    if with_dvc:
        leader = psutil.Process(os.getpgid(left[0]))
        assert "repro" in leader.cmdline()
        leader.kill()
    assert all(psutil.pid_exists(pid) for pid in left)
    with workspace.exclusive() as killed_in:
        assert killed_in == "slow"
        assert sleepers(here) == []
    assert workspace.reproduce("first", lambda line: None) is True


def sleepers(folder: Path) -> list[int]:
    """Processes of the stage `slow` that work in this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cmdline() == ["sleep", "300"] and process.cwd() == str(folder):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found
