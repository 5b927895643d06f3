"""Podman for tests: base images from Debian's packages, so that no image registry is needed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from project import ROOT

NEEDED = ("podman", "buildah", "runc", "mmdebstrap")
BASE = "localhost/boxpromptiml-base"
POSTGRES = "docker.io/library/postgres:17"  # the name that infra/ uses, for the stand-in made here
# No systemd, no limits above the account's: what works in a container or a small machine, too.
_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
[engine]
runtime = "runc"
"""
# What infra/ uses of the official image's entrypoint.
_ENTRY = r"""#!/bin/sh
set -eu
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
data=${PGDATA:-/var/lib/postgresql/data}
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$data"
    chown -R postgres "$data" /var/run/postgresql
    exec setpriv --reuid postgres --regid postgres --clear-groups "$0"
fi
if [ ! -s "$data/PG_VERSION" ]; then
    echo "$POSTGRES_PASSWORD" > /tmp/password
    initdb --pgdata "$data" --username "$POSTGRES_USER" --pwfile /tmp/password \
        --encoding UTF8 --auth-local trust --auth-host scram-sha-256
    echo "host all all all scram-sha-256" >> "$data/pg_hba.conf"
    pg_ctl --pgdata "$data" --options "-c listen_addresses=''" --wait start
    createdb --username "$POSTGRES_USER" "$POSTGRES_DB"
    for file in /docker-entrypoint-initdb.d/*.sql; do
        psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --file "$file"
    done
    pg_ctl --pgdata "$data" --wait stop
fi
exec postgres -D "$data" -c listen_addresses='*'
"""


@dataclass(frozen=True)
class Engine:
    """Podman with the settings of these tests; `folder` holds them."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What podman and buildah are called with."""
        settings = self.folder / "containers.conf"
        settings.write_text(_CONF)
        return {**os.environ, "BUILDAH_ISOLATION": "chroot", "CONTAINERS_CONF": str(settings)}

    def run(self, *command: str | Path, code: int | None = 0, seconds: float = 600) -> str:
        """Run a command; its exit code must be `code` (None: any). Gives what it printed."""
        done = subprocess.run(
            [str(part) for part in command],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
        if code is not None and done.returncode != code:
            pytest.fail(f"{command}: {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
        return done.stdout

    def confined(self, image: str, *command: str, **mounts: Path) -> str:
        """Run a command in a container that may do nothing: no network, no root, nothing to write.

        Args:
            image: the image.
            command: the command.
            mounts: folders of this machine, read-only below `/`.
        """
        volumes = [f"--volume={path}:/{name}:ro" for name, path in mounts.items()]
        return self.run(
            *("podman", "run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp"),
            *("--cap-drop", "all", "--security-opt", "no-new-privileges", *volumes),
            *(image, *command),
        )

    def exists(self, image: str) -> bool:
        """Whether the image is in the store."""
        command = ["podman", "image", "exists", image]
        return not subprocess.run(command, env=self.environment, check=False).returncode

    def healthy(self, container: str) -> bool:
        """Whether the container's own health check says so; asked for here, not by systemd."""
        command = ["podman", "healthcheck", "run", container]
        done = subprocess.run(command, env=self.environment, capture_output=True, check=False)
        return not done.returncode

    def wait_healthy(self, container: str, seconds: float = 180) -> None:
        """Wait until the container is healthy; its log is shown where it is not."""
        deadline = time.monotonic() + seconds
        while not self.healthy(container):
            if time.monotonic() > deadline:
                log = self.run("podman", "logs", "--tail", "40", container, code=None)
                pytest.fail(f"{container} is not healthy after {seconds:.0f} s\n{log}")
            time.sleep(2)

    def kill(self, container: str) -> None:
        """Kill -9 the container's first process, as its machine would for want of memory."""
        shown = self.run("podman", "inspect", "--format", "{{.State.Pid}}", container)
        os.kill(int(shown), signal.SIGKILL)
        while self.run("podman", "inspect", "--format", "{{.State.Pid}}", container) == shown:
            time.sleep(0.2)

    def base(self, name: str, packages: str, *options: str, changes: Mapping[str, str]) -> None:
        """Make a base image of Debian's packages, if it is not in the store."""
        if self.exists(name):
            return
        archive = self.folder / "base.tar"
        slim = [f"--dpkgopt=path-exclude=/usr/share/{n}/*" for n in ("man", "locale")]
        # Merged from the start, as the official images are: to merge it later takes all of Perl.
        slim += ["--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", "--include=usr-is-merged"]
        making = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}"]
        self.run(*making, *slim, *options, "bookworm", archive)
        changed = [f"--change={key} {value}" for key, value in changes.items()]
        self.run("podman", "import", *changed, archive, name)
        archive.unlink()


def engine(folder: Path) -> Engine:
    """Podman with its base image; the test fails, saying how to install it, where it is missing."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        pytest.fail(f"{', '.join(missing)}: not installed; apt-get install {' '.join(missing)}")
    made = Engine(folder)
    made.base(BASE, "python3,python3-venv,ca-certificates", changes={})
    return made


def build(engine: Engine, target: str) -> Path:
    """Build an image of infra/Dockerfile; gives its bill of materials."""
    out = engine.folder / "bills"
    script = [sys.executable, "infra/images.py", target, "--base", BASE, "--out", out]
    engine.run(*script, seconds=3600)
    return out / f"boxpromptiml-{target}.cdx.json"


def build_postgres(engine: Engine) -> None:
    """A stand-in for PostgreSQL's official image, by its name."""
    entry = engine.folder / "entry"
    entry.write_text(_ENTRY)
    entry.chmod(0o755)
    changes = {"ENTRYPOINT": '["/entry"]'}
    copied = f"--customize-hook=copy-in {entry} /"
    engine.base(POSTGRES, "postgresql", copied, changes=changes)
