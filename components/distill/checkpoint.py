"""Checkpoints of a training: written after each epoch, checked before they are used.

`epoch-NNNN.safetensors` holds every tensor (weights, best weights so far, optimiser state),
`epoch-NNNN.json` the rest and the SHA-256 of the tensors. The JSON is written last, so a run that
was killed between the two leaves the epoch before. The last two epochs are kept. No random state is
stored: every epoch derives its own from the seed and its number.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from components.core.errors import InputError, brief
from components.core.files import read_json, sha256_bytes, sha256_json, write_bytes, write_json

KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """State after an epoch."""

    epoch: int  # finished epochs
    tensors: dict[str, Tensor]  # everything with numbers in it, by name
    facts: dict[str, Any]  # JSON values (history, best epoch)


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically and drop those older than the one before it."""
    data = to_bytes(checkpoint.tensors)
    stem = f"epoch-{checkpoint.epoch:04d}"
    write_bytes(folder / f"{stem}.safetensors", data)
    body = {"epoch": checkpoint.epoch, "tensors": sha256_bytes(data), "facts": checkpoint.facts}
    write_json(folder / f"{stem}.json", {"body": body, "sha256": sha256_json(body)})
    for path in folder.iterdir():
        # Files of older epochs, and what a killed run left half-written (hidden names).
        old = path.name.startswith("epoch-") and path.stem <= f"epoch-{checkpoint.epoch - KEPT:04d}"
        if old or path.name.startswith(".epoch-"):
            path.unlink(missing_ok=True)


def newest(folder: Path) -> Checkpoint | None:
    """The newest intact checkpoint, or None; a damaged one is named on stderr and skipped."""
    for path in sorted(folder.glob("epoch-*.json"), reverse=True):
        try:
            return _read(path)
        except (InputError, OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            print(f"warning: checkpoint skipped: {brief(error)}", file=sys.stderr, flush=True)
    return None


def _read(path: Path) -> Checkpoint:
    stored = read_json(path)
    body = stored["body"]
    if sha256_json(body) != stored["sha256"]:
        raise InputError("was changed", where=str(path))
    data = path.with_suffix(".safetensors").read_bytes()
    if sha256_bytes(data) != body["tensors"]:
        raise InputError("was changed or cut short", where=str(path.with_suffix(".safetensors")))
    return Checkpoint(body["epoch"], from_bytes(data), body["facts"])
