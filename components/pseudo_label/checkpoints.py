"""The official Segment Anything checkpoints: where they are, what they must hash to.

Sizes and hashes are those of the files Meta AI publishes under the Apache-2.0 licence. Files are
kept in the state folder under `weights/`; a mirror is named by the environment, because an address
cannot change a result: the SHA-256 decides.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import InputError
from components.core.files import sha256_file
from components.core.paths import WEIGHTS, state_dir
from components.core.progress import Progress
from components.pseudo_label.download import UnavailableError, download

MIRROR = "IML_SAM_MIRROR"
OFFICIAL = "https://dl.fbaipublicfiles.com/segment_anything"
NO_WEIGHTS = (
    "set pseudo_label.teacher: grabcut, which needs no weights, or pseudo_label.checkpoint to a "
    "local .pth file, in params.yaml"
)


@dataclass(frozen=True)
class Checkpoint:
    """A published weights file: its name, size in bytes and SHA-256."""

    file: str
    size: int
    sha256: str

    @property
    def url(self) -> str:
        """Its address, below `IML_SAM_MIRROR` where that is set."""
        return f"{(os.environ.get(MIRROR) or OFFICIAL).rstrip('/')}/{self.file}"


CHECKPOINTS = {
    "vit_b": Checkpoint(
        "sam_vit_b_01ec64.pth",
        375_042_383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    "vit_l": Checkpoint(
        "sam_vit_l_0b3195.pth",
        1_249_524_607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    "vit_h": Checkpoint(
        "sam_vit_h_4b8939.pth",
        2_564_550_879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
}


def weights_dir() -> Path:
    """Where fetched checkpoints lie."""
    return state_dir() / WEIGHTS


def on_disk(name: str) -> Path | None:
    """The fetched file of checkpoint `name`, if it is there in full size (not hashed here)."""
    known = CHECKPOINTS[name]
    path = weights_dir() / known.file
    return path if path.is_file() and path.stat().st_size == known.size else None


def fetch(
    name: str,
    dest_dir: Path | None = None,
    progress: Progress | None = None,
    *,
    timeout: float = 30.0,
    checkpoints: dict[str, Checkpoint] = CHECKPOINTS,
) -> Path:
    """Bring a checkpoint to disk, unless it is there, and return its path.

    Args:
        name: `vit_b`, `vit_l` or `vit_h`.
        dest_dir: the folder; `weights_dir()` by default.
        progress: called with (bytes so far, bytes in all).
        timeout: seconds a silent server is waited for.
        checkpoints: the table of known files.

    Raises:
        InputError: unknown name, unreachable host, wrong hash; an interrupted download goes on
            where it stopped at the next call.
    """
    if name not in checkpoints:
        raise InputError(
            f"{name!r} has no weights to fetch", hint=f"choose one of {', '.join(checkpoints)}"
        )
    known = checkpoints[name]
    path = (dest_dir or weights_dir()) / known.file
    if path.exists():
        verify(path, known)
        return path
    try:
        download(
            known.url,
            path,
            size=known.size,
            sha256=known.sha256,
            timeout=timeout,
            progress=progress,
        )
    except UnavailableError as error:
        raise InputError(
            f"cannot fetch {known.file} ({error.what})",
            where=error.where,
            hint=f"run the same command again to continue, or {NO_WEIGHTS}",
        ) from None
    return path


def verify(path: Path, known: Checkpoint) -> None:
    """Refuse a file that has an official checkpoint's name but not its bytes."""
    if path.stat().st_size != known.size or sha256_file(path) != known.sha256:
        raise InputError(
            f"is not the published {known.file} (its SHA-256 differs)",
            where=str(path),
            hint="delete it and run `iml teacher fetch`, or rename it if it is meant to differ",
        )


def locate(name: str, checkpoint: str, progress: Progress | None = None) -> Path:
    """The weights file of teacher `name`: a given local path, else fetched.

    Raises:
        InputError: no such file; an official file name with another file's bytes; see `fetch`.
    """
    if not checkpoint:
        return fetch(name, progress=progress)
    path = Path(checkpoint)
    if not path.is_file():
        raise InputError(
            "no such file", where=f"pseudo_label.checkpoint: {checkpoint}", hint=NO_WEIGHTS
        )
    for known in CHECKPOINTS.values():
        if path.name == known.file:
            verify(path, known)
    return path
