"""Who may read a workspace but not write it can audit its versions and export them."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lineage_support as support
import pytest

from components.lineage.verdict import LINKS

# Root may write everywhere unless it gives that up.
RIGHTS = "-dac_override,-dac_read_search"
UNPRIVILEGED = ["setpriv", "--bounding-set", RIGHTS, "--inh-caps", RIGHTS, "--"]
MAIN = "from flows.cli.main import main; main()"
ONE = f"{support.MODEL}/1"


def _change(root: Path, *, writable: bool) -> None:
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | stat.S_IWUSR if writable else mode & ~0o222)


@pytest.fixture
def read_only(copied: Path) -> Iterator[Path]:
    _change(copied, writable=False)
    yield copied
    _change(copied, writable=True)


def iml(*arguments: object) -> dict:
    prefix = [] if os.geteuid() else UNPRIVILEGED
    command = [*prefix, sys.executable, "-P", "-c", MAIN, *map(str, arguments), "--json"]
    env = {**os.environ, "PYTHONPATH": str(support.ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout)


def test_a_version_is_audited_and_exported_as_where_one_may_write(
    read_only: Path, tmp_path: Path
) -> None:
    before = sorted(read_only.rglob("*"))
    said = iml("audit", ONE, "--deep")
    assert {name: link["verdict"] for name, link in said["links"].items()} == dict.fromkeys(
        LINKS, "verified"
    )
    assert said["objects"] > 50
    bundle = tmp_path / "case.tar"
    assert iml("lineage", "export", ONE, "--photos", "--out", bundle)["left_out"] == 0
    assert iml("audit", bundle, "--deep")["verdict"] == "verified"
    assert sorted(read_only.rglob("*")) == before
