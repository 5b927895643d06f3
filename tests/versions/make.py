"""Makes an archive of three versions with the code of this commit: `make.py NAME`.

Versions must outlive the code that made them, so test_versions.py runs the current commands on
every archive in this folder. Add one whenever a schema or the layout of a version changes:

    python tests/versions/make.py 2026-11-28

It copies the committed project to the neutral folder ROOT, without what the versions do not need
(see UNNEEDED), and works there as people do: version 1 by `iml run`; version 2 by the deployment
`retrain/nightly` of a real Prefect server with a real worker, in a clone; version 3 by `iml run`
on top of the branch `retrain`, with one changed photo; then `iml model rollback` to version 1.
All three were promoted. The networks are tiny and the settings are those of the end-to-end tests.

`NAME.tar.xz` then holds the git repository, the DVC remote, the ledger, MLflow's store and the
keys (the private one was made for this archive and signs nothing else), one photo, and
`facts.json`: what the commands of that time said. Absolute paths in MLflow's database begin with
ROOT; who unpacks the archive elsewhere replaces them.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "e2e"), str(HERE.parent)]

import project  # noqa: E402
from e2e_support import SMALL, Workspace, commit_all  # noqa: E402
from PIL import Image, ImageOps  # noqa: E402
from production_support import free_ports  # noqa: E402

ROOT = Path("/tmp/boxpromptiml-versions")
MODEL = "boxpromptiml"
COUNTS = ("--manipulated", "24", "--authentic", "14", "--seed", "5")
# The smallest network with four scales, trained long enough to find something.
TINY = {
    "student": {
        "backbone": "test_efficientnet",
        "weights": "none",
        "channels": 8,
        "prototypes": 4,
    },
    "epochs": 20,
    "batch": 2,
    "learning_rate": 0.02,
    "backbone_rate": 1.0,
    "weight_decay": 0.0,
    "ema": 0.0,
    "loss": {"confidence": False, "dice": 30.0},
}
# Weights of a teacher that is not used, bundled photos, and what no run reads.
UNNEEDED = (
    "components/teacher/assets/sam_lite.safetensors",
    "data/demo",
    "dvc.lock",
    "docs/",
    "tests/",
)
KEPT = ("ledger.db", "mlflow", "keys", "last_run.json", "dvc-remote")


class Maker(Workspace):
    """The workspace in which the versions are made; nothing in it names who made it, or where."""

    @property
    def environment(self) -> dict[str, str]:
        """Of a person called anna, whose code is that of the workspace."""
        return {
            **super().environment,
            "PYTHONPATH": str(self.root),
            "PYTHONDONTWRITEBYTECODE": "1",
            "IML_ACTOR": "anna",
            "PREFECT_HOME": str(self.root.parent / "prefect"),
        }


def copy_project(folder: Path) -> Maker:
    """The committed project, with small settings, as a repository of its own."""
    sources = ("data/demo-sources/",)
    project.copy_project(
        folder, lambda name: not name.startswith(UNNEEDED) or name.startswith(sources)
    )
    made = Maker(folder)
    made.params(**SMALL)
    # Fewer test photos leave the comparison with a champion without a bound.
    made.params(prepare={"split": {"val": 0.15, "test": 0.5}}, distill=TINY)
    made.run("git", "init", "--quiet", "--initial-branch", "main")
    made.iml("dataset", "synthesize", "--name", "demo", *COUNTS)
    shutil.rmtree(folder / "data/demo-sources")
    commit_all(made, "start")
    return made


def iml_run(made: Maker) -> None:
    """A person's run; its version must become champion."""
    outcome = json.loads(made.iml("run", "--commit", "--json").stdout)
    assert outcome["promoted"], outcome


def change_photo(made: Maker) -> None:
    """Another picture under the name of an authentic photo."""
    index = json.loads((made.root / "data/demo/boxes.json").read_text())
    name = next(row["file_name"] for row in index["images"] if row["label"] == "authentic")
    path = made.root / "data/demo/photos" / name
    with Image.open(path) as photo:
        other = ImageOps.mirror(photo.convert("RGB"))
    path.unlink()  # DVC's cache may share its bytes
    other.save(path, quality=90)
    made.run("dvc", "add", "data/demo")


@contextmanager
def process(made: Maker, log: Path, *command: str, **env: str) -> Iterator[None]:
    """A server for the time of the block."""
    with (
        log.open("ab") as out,
        subprocess.Popen(
            command, cwd=made.root, env={**made.environment, **env}, stdout=out, stderr=out
        ) as server,
    ):
        try:
            yield
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()


def deployment_run(made: Maker) -> None:
    """A run of `retrain/nightly` on a Prefect server, by its worker, in a clone."""
    made.run("dvc", "push")
    (port,) = free_ports(1)
    api, log = f"http://127.0.0.1:{port}/api", made.root.parent / "prefect.log"
    env = {
        "PREFECT_API_URL": api,
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLIENT_MAX_RETRIES": "8",
        "IML_REPOSITORY": str(made.root),
        "IML_DVC_REMOTE": str(made.root / ".state/dvc-remote"),
        "IML_STATE": str(made.root / ".state"),
    }
    server = ("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    worker = ("prefect", "worker", "start", "--pool", "retrain")
    deploy = ("prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "infra/prefect.yaml")
    with process(made, log, *server, **env):
        wait_for(api)
        made.run("prefect", "work-pool", "create", "retrain", "--type", "process", **env)
        made.run(*deploy, **env)
        with process(made, log, *worker, **env):
            made.run("prefect", "deployment", "run", "retrain/nightly", "--watch", **env)
    champion = say(made, "model", "show", f"{MODEL}@champion")
    assert champion["version"] == 2


def wait_for(api: str) -> None:
    """Until a Prefect server answers."""
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"{api}/health", timeout=5).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def say(made: Maker, *command: str) -> Any:
    """The JSON that a command prints."""
    return json.loads(made.iml(*command, "--json").stdout)


def facts(made: Maker, photo: Path) -> dict[str, Any]:
    """What the code of this commit says of the versions."""
    by = {1: "iml run", 2: "deployment retrain", 3: "iml run"}
    versions = {}
    for number, source in by.items():
        name = f"{MODEL}/{number}"
        predicted = say(made, "predict", str(photo), "--model", name, "--out", ".state/predicted")
        audited = say(made, "audit", name, "--deep")
        assert audited["verdict"] == "verified", audited
        versions[number] = {
            "source": source,
            "show": say(made, "model", "show", name),
            "predict": {k: v for k, v in predicted["photos"][0].items() if k != "photo"},
            "objects": audited["objects"],
        }
    head = ["git", "rev-parse", "HEAD"]
    code = subprocess.run(head, cwd=project.ROOT, capture_output=True, text=True, check=True)
    return {
        "root": str(made.root),
        "model": MODEL,
        "code": code.stdout.strip(),
        "versions": versions,
        "history": say(made, "model", "history")["rows"],
    }


def tidy(made: Maker) -> None:
    """Leave what the archive holds: the repository in one pack, and the state that is evidence."""
    # Not compressed here, so that the archive finds what the repository shares with the versions.
    plain = ("-c", "core.compression=0", "-c", "pack.compression=0")
    made.run("git", "reflog", "expire", "--expire=now", "--all")
    made.run("git", *plain, "repack", "-a", "-d", "-f", "-F", "--quiet")
    made.run("git", "prune", "--expire=now")
    for name in ("hooks", "logs", "index", "COMMIT_EDITMSG", "ORIG_HEAD"):
        path = made.root / ".git" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for path in (made.root / ".state").iterdir():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for database in (made.root / ".state").rglob("*.db"):
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("VACUUM")


def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """An entry that does not name the account that made it."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def pack(made: Maker, extra: Path, archive: Path) -> None:
    """Write the archive: one stream with a window over all of it."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 27}]
    with (
        lzma.open(archive, "wb", filters=filters) as out,
        tarfile.open(fileobj=out, mode="w") as tar,
    ):
        for name in (".git", ".state"):
            tar.add(made.root / name, f"project/{name}", filter=plain)
        for path in sorted(extra.iterdir()):
            tar.add(path, path.name, filter=plain)


def second_and_third(made: Maker) -> None:
    """What follows the first version, to the rollback."""
    made.params(distill={"seed": 8})
    commit_all(made, "other seed")
    deployment_run(made)
    made.run("git", "merge", "--quiet", "--ff-only", "retrain")
    change_photo(made)
    made.params(validate={"min_area": 9}, distill={"seed": 9, "loss": {"dice": 20.0}})
    commit_all(made, "one photo changed, less Dice, smaller boxes allowed")
    iml_run(made)
    made.run("dvc", "push")
    made.iml("model", "rollback", f"{MODEL}/1", "--reason", "fewer false alarms")


def archive(made: Maker, target: Path) -> None:
    """Ask the commands about the versions, tidy up and write the archive."""
    with tempfile.TemporaryDirectory() as scratch:
        extra = Path(scratch)
        photo = sorted((made.root / "data/demo/photos").rglob("*splice*.jpg"))[0]
        shutil.copyfile(photo, extra / "photo.jpg")
        said = facts(made, extra / "photo.jpg")
        (extra / "facts.json").write_text(json.dumps(said, indent=1))
        tidy(made)
        pack(made, extra, target)


def main() -> None:
    """Make an archive and say how large it is."""
    parser = argparse.ArgumentParser(description="Make an archive of three versions.")
    parser.add_argument("name", help="of the archive, e.g. the date")
    target = HERE / f"{parser.parse_args().name}.tar.xz"
    for path in (target, ROOT):
        if path.exists():
            raise SystemExit(f"{path} is there already")
    os.umask(0o022)
    made = copy_project(ROOT / "project")  # left for a look where something fails
    iml_run(made)
    second_and_third(made)
    archive(made, target)
    shutil.rmtree(ROOT)
    size = sum(path.stat().st_size for path in HERE.glob("*.tar.xz"))
    print(f"{target.name}: {target.stat().st_size:,} bytes; all archives {size:,}")


if __name__ == "__main__":
    main()
