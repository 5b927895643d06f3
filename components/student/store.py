"""A student on disk: `student.safetensors` and the `student.json` to build it from.

The JSON carries the SHA-256 of the weights and one of everything else in itself, so a file that was
cut short or changed is one clear error and never a network that answers nonsense.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes

from components.core.errors import InputError, brief
from components.core.files import (
    canonical_json,
    read_json,
    sha256_bytes,
    sha256_json,
    write_bytes,
    write_json,
)
from components.student.model import Student, StudentConfig

WEIGHTS, CONFIG = "student.safetensors", "student.json"
HASH, OWN_HASH = "weights_sha256", "config_sha256"


def weights_bytes(student: Student) -> bytes:
    """The weights as a safetensors file: equal weights give equal bytes."""
    state = student.state_dict()
    return to_bytes({name: value.contiguous() for name, value in state.items()})


def save(student: Student, folder: str | Path) -> None:
    """Write both files, each atomically; the config, which vouches for the weights, last."""
    data = weights_bytes(student)
    write_bytes(Path(folder) / WEIGHTS, data)
    config = student.config
    values = {"format": config.format} | config.model_dump(mode="json")  # it comes first
    values[HASH] = sha256_bytes(data)
    write_json(Path(folder) / CONFIG, values | {OWN_HASH: sha256_json(values)})


def read_config(folder: str | Path) -> tuple[StudentConfig, str]:
    """The config and the SHA-256 its weights must have; InputError for a file that was changed."""
    path = Path(folder) / CONFIG
    values = read_json(path)
    _check_unchanged(values, path)
    digest = values.pop(HASH, None)
    if not isinstance(digest, str):
        raise InputError(f"{HASH} is missing", where=str(path))
    try:
        return StudentConfig.model_validate_json(canonical_json(values)), digest
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        raise InputError(f"{key}: {first['msg']}", where=str(path)) from None


def _check_unchanged(values: Any, path: Path) -> None:
    """Take the file's own SHA-256 out of `values`; InputError unless it is that of the rest."""
    digest = values.pop(OWN_HASH, None) if isinstance(values, dict) else None
    if not isinstance(digest, str):
        hint = "train the student again, e.g. with `iml run`"
        raise InputError(f"{OWN_HASH} is missing", where=str(path), hint=hint)
    try:
        same = sha256_json(values) == digest
    except ValueError:  # NaN, or half a character: nothing that `save` wrote
        same = False
    if not same:
        raise InputError(
            f"SHA-256 differs from {OWN_HASH}: the file was changed",
            where=str(path),
            hint="fetch both files again",
        )


def load(folder: str | Path) -> Student:
    """Read a student, in evaluation mode, on the CPU.

    Raises:
        InputError: a file is missing, was changed or cut short, or does not fit its config.
    """
    config, digest = read_config(folder)
    path = Path(folder) / WEIGHTS
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError("no such file", where=os.fspath(path)) from None
    if sha256_bytes(data) != digest:
        raise InputError(
            f"SHA-256 differs from the one in {CONFIG}: the file was changed or cut short",
            where=os.fspath(path),
            hint="fetch both files again",
        )
    student = Student(config)
    try:
        student.load_state_dict(from_bytes(data), strict=True)
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"does not fit {CONFIG} ({brief(error)})", where=os.fspath(path)) from None
    return student.to(memory_format=torch.channels_last).eval()
