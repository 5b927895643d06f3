"""Published weights of teachers: where they are, what they must hash to.

Fetched files are kept in the state folder under `weights/`. A mirror is named by the environment,
because an address cannot change a result: the SHA-256 decides.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import InputError, UnavailableError
from components.core.files import sha256_file
from components.core.paths import WEIGHTS, state_dir
from components.core.progress import Progress
from components.pseudo_label.download import download

NO_WEIGHTS = (
    "set pseudo_label.teacher: grabcut, which needs no weights, or pseudo_label.checkpoint to a "
    "local file, in params.yaml"
)


@dataclass(frozen=True)
class Weights:
    """A published weights file.

    Attributes:
        file: its name.
        size: in bytes.
        sha256: of its bytes.
        address: base URL; empty for weights that are part of the project.
        mirror: environment variable that names another base URL.
        folder: where it is in the project; None for what is downloaded.
    """

    file: str
    size: int
    sha256: str
    address: str = ""
    mirror: str = ""
    folder: Path | None = None

    @property
    def url(self) -> str:
        """Its address, at the mirror where one is set."""
        return f"{(os.environ.get(self.mirror) or self.address).rstrip('/')}/{self.file}"

    @property
    def path(self) -> Path:
        """Where it is, or will be once downloaded."""
        return (self.folder or state_dir() / WEIGHTS) / self.file

    def on_disk(self) -> bool:
        """Whether it is there in full size (not hashed here)."""
        return self.path.is_file() and self.path.stat().st_size == self.size

    def fetch(self, progress: Progress | None = None, *, timeout: float = 30.0) -> Path:
        """Download it unless it is there; its verified path.

        Args:
            progress: called with (bytes so far, bytes in all).
            timeout: seconds to wait for a silent server.

        Raises:
            InputError: unreachable host, wrong hash; an interrupted download continues at the
                next call.
        """
        if self.folder or self.path.exists():
            return self.verify(self.path)
        try:
            download(
                self.url,
                self.path,
                size=self.size,
                sha256=self.sha256,
                timeout=timeout,
                progress=progress,
            )
        except UnavailableError as error:
            raise InputError(
                f"cannot fetch {self.file} ({error.what})",
                where=error.where,
                hint=f"run the same command again to continue, or {NO_WEIGHTS}",
            ) from None
        return self.path

    def fetch_with_bar(self) -> Path:
        """`fetch`, shown on stderr."""
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
        from rich.progress import TransferSpeedColumn as Speed

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), Speed())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(self.file, total=None, visible=False)
            return self.fetch(
                lambda done, total: bar.update(task, completed=done, total=total, visible=True)
            )

    def verify(self, path: Path) -> Path:
        """Return a file that has this one's bytes, raise InputError for any other."""
        if path.is_file() and path.stat().st_size == self.size and sha256_file(path) == self.sha256:
            return path
        fetched = "delete it and run `iml teacher fetch`, or rename it if it is meant to differ"
        raise InputError(
            f"is not the published {self.file} (its SHA-256 differs)",
            where=str(path),
            hint=fetched if self.address else "install the project again",
        )
