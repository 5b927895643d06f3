"""A student on disk: `student.safetensors` and the `student.json` that says how to build it.

The JSON carries the SHA-256 of the weights, so a file that was cut short or changed is one clear
error and never a network that answers nonsense.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes

from components.errors import InputError
from components.files import canonical_json, read_json, sha256_bytes, write_bytes, write_json
from components.student.config import StudentConfig
from components.student.model import Student

WEIGHTS, CONFIG = "student.safetensors", "student.json"
HASH = "weights_sha256"


def weights_bytes(student: Student) -> bytes:
    """The weights as a safetensors file: equal weights give equal bytes."""
    state = student.state_dict()
    return to_bytes({name: value.contiguous() for name, value in state.items()})


def save(student: Student, folder: str | Path) -> None:
    """Write both files, each atomically; the config, which vouches for the weights, last."""
    data = weights_bytes(student)
    write_bytes(Path(folder) / WEIGHTS, data)
    config = student.config.model_dump(mode="json")
    write_json(Path(folder) / CONFIG, config | {HASH: sha256_bytes(data)})


def read_config(folder: str | Path) -> tuple[StudentConfig, str]:
    """The config and the SHA-256 its weights must have; raises InputError."""
    path = Path(folder) / CONFIG
    values = read_json(path)
    digest = values.pop(HASH, None) if isinstance(values, dict) else None
    if not isinstance(digest, str):
        raise InputError(f"{HASH} is missing", where=str(path))
    try:
        return StudentConfig.model_validate_json(canonical_json(values)), digest
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        raise InputError(f"{key}: {first['msg']}", where=str(path)) from None


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
            mend="fetch both files again",
        )
    student = Student(config)
    try:
        student.load_state_dict(from_bytes(data), strict=True)
    except (SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"does not fit {CONFIG} ({reason})", where=os.fspath(path)) from None
    return student.to(memory_format=torch.channels_last).eval()
