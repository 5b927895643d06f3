"""Workspaces of their own for the end-to-end tests: a copy of this project, small parameters."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml
from project import BIN, copy_project

# Small enough for seconds a stage, large enough that every part has something to do.
SMALL = {
    "pseudo_label": {"teacher": "grabcut"},
    "distill": {
        "student": {"size": 64, "channels": 16, "prototypes": 8},
        "epochs": 3,
        "batch": 8,
        "threads": 1,
    },
    "evaluate": {"bootstrap": 100, "threads": 1},
    "export": {"sizes": [[64, 64], [64, 96]]},
    "promotion": {
        "gates": {
            "min_f1": 0.0,
            "min_image_auc": 0.0,
            "min_photos": None,
            "min_groups": None,
            "max_false_alarm_area": 1.0,
            "champion_margin": 1.0,
            "champion_alarm_margin": 1.0,
            "superiority": False,
        }
    },
}


@dataclass(frozen=True)
class Workspace:
    """A copy of the project that may be run, broken and mended."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a person's shell has, with a state folder of this workspace."""
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("IML_", "MLFLOW_TRACK"))}
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        return {**keep, "PATH": path, "PREFECT_HOME": str(self.root / ".state/prefect")}

    def run(self, *command: str, code: int | None = 0, **env: str) -> subprocess.CompletedProcess:
        """Run a command here; its exit code must be `code` (None: any)."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env={**self.environment, **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=420,
        )
        if code is not None:
            assert done.returncode == code, (
                f"{command}: {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
            )
        return done

    def iml(self, *arguments: str, code: int | None = 0, **env: str) -> subprocess.CompletedProcess:
        """The command line under test."""
        return self.run("iml", *arguments, code=code, **env)

    def refused(self, *command: str, **env: str) -> str:
        """The one line a command refuses with: exit code 2, no traceback."""
        done = self.run(*command, code=2, **env)
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, done.stderr
        assert "Traceback" not in done.stderr + done.stdout
        return lines[0]

    def params(self, **blocks: dict) -> None:
        """Change some parameters in params.yaml."""
        path = self.root / "params.yaml"
        values = yaml.safe_load(path.read_text())
        _merge(values, blocks)
        path.write_text(yaml.safe_dump(values, sort_keys=False))

    def hashes(self, *folders: str) -> dict[str, str]:
        """SHA-256 of every file below some folders."""
        return {
            str(path.relative_to(self.root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for folder in folders
            for path in sorted((self.root / folder).rglob("*"))
            if path.is_file() and path.name != ".gitignore"
        }


def _merge(into: dict, changes: dict) -> None:
    for key, value in changes.items():
        if isinstance(value, dict):
            _merge(into[key], value)
        else:
            into[key] = value


def make_workspace(folder: Path) -> Workspace:
    """Copy what git knows or would add, make it a repository of its own, set small parameters."""
    copy_project(folder, lambda name: name != "dvc.lock")
    workspace = Workspace(folder)
    workspace.params(**SMALL)
    commit_all(workspace, "start")
    return workspace


def commit_all(workspace: Workspace, message: str) -> None:
    """Commit everything git would add."""
    if not (workspace.root / ".git").exists():
        workspace.run("git", "init", "--quiet")
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    workspace.run("git", "add", "--all")
    workspace.run("git", *who, "commit", "--quiet", "--allow-empty", "-m", message)


def add_demo(workspace: Workspace) -> None:
    """Make and track the data set `demo`: 28 manipulated and 14 authentic photos."""
    counts = ("--manipulated", "28", "--authentic", "14", "--seed", "5")
    workspace.iml("dataset", "synthesize", "--name", "demo", *counts)
    commit_all(workspace, "data")
