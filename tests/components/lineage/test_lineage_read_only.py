"""Who may read a workspace but not write it can use, audit and export its versions."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lineage_support as support
import pytest

from components.core.files import read_json
from components.lineage.verdict import LINKS
from components.registry.versions import Registry

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


def iml(*arguments: object) -> str:
    prefix = [] if os.geteuid() else UNPRIVILEGED
    command = [*prefix, sys.executable, "-P", "-c", MAIN, *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(support.ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_predict_score_and_evaluate_work(read_only: Path, tmp_path: Path) -> None:
    before = sorted(read_only.rglob("*"))
    out, model = tmp_path / "out", ("--model", f"{support.MODEL}@champion")
    photo = next((read_only / "data/made/photos").rglob("Tp*.png"))
    iml("predict", photo, *model, "--out", out / "one")
    assert read_json(out / "one" / f"{photo.stem}.json")["version"] == 1
    shutil.copytree(photo.parent, tmp_path / "in")
    iml("score", tmp_path / "in", "--min-side", 16, *model, "--out", out / "many")
    assert (out / "many/triage.html").is_file()
    iml("evaluate", "--data", read_only / "data/made", *model, "--out", out / "figures")
    assert read_json(out / "figures/metrics.json")["n_manipulated"] > 0
    assert sorted(read_only.rglob("*")) == before
    assert not list(Path("/tmp").glob("iml-models-*"))


def test_versions_are_shown_and_drift_is_found(read_only: Path, tmp_path: Path) -> None:
    before = sorted(read_only.rglob("*"))
    assert json.loads(iml("model", "show", ONE, "--json"))["status"] == "champion"
    assert [row["version"] for row in json.loads(iml("model", "list", "--json"))["versions"]] == [
        1,
        2,
    ]
    for name in ("then", "now"):
        table = "score,area,width,height,jpeg_quality\n" + "0.5,0.1,64,64,90\n" * 40
        (tmp_path / f"{name}.csv").write_text(table)
    out = tmp_path / "drift"
    arguments = ("--out", out, "--model", support.MODEL, "--json")
    found = json.loads(iml("drift", tmp_path / "then.csv", tmp_path / "now.csv", *arguments))
    assert not found["drifted"]
    assert (out / "drift.html").is_file()
    assert sorted(read_only.rglob("*")) == before


def test_an_alias_that_cannot_be_set_back_is_only_said(copied: Path, tmp_path: Path) -> None:
    Registry.open(support.MODEL).store.set_alias(support.MODEL, 2)
    _change(copied, writable=False)
    try:
        (note,) = json.loads(iml("model", "list", "--json"))["notes"]
    finally:
        _change(copied, writable=True)
    assert "the ledger says 1: it was moved by hand; it cannot be corrected here" in note
    assert Registry.open(support.MODEL).store.alias(support.MODEL) == 2


def test_a_version_is_audited_and_exported_as_where_one_may_write(
    read_only: Path, tmp_path: Path
) -> None:
    before = sorted(read_only.rglob("*"))
    said = json.loads(iml("audit", ONE, "--deep", "--json"))
    assert {name: link["verdict"] for name, link in said["links"].items()} == dict.fromkeys(
        LINKS, "verified"
    )
    assert said["objects"] > 50
    bundle = tmp_path / "case.tar"
    exported = iml("lineage", "export", ONE, "--photos", "--out", bundle, "--json")
    assert json.loads(exported)["left_out"] == 0
    assert json.loads(iml("audit", bundle, "--deep", "--json"))["verdict"] == "verified"
    assert sorted(read_only.rglob("*")) == before
