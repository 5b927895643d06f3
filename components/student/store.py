"""A student on disk: `student.safetensors` and the `student.json` to build it from."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes

from components.core.errors import InputError, brief
from components.core.files import sha256_bytes, write_bytes
from components.student import config
from components.student.config import CONFIG, HASH, WEIGHTS
from components.student.model import Student


def weights_bytes(student: Student) -> bytes:
    """The weights as a safetensors file: equal weights give equal bytes."""
    state = student.state_dict()
    return to_bytes({name: value.contiguous() for name, value in state.items()})


def save(student: Student, folder: str | Path, **hashes: str) -> None:
    """Write both files, each atomically; the config last.

    It vouches for the weights, and for other files by `hashes` (see `config.write`).
    """
    data = weights_bytes(student)
    write_bytes(Path(folder) / WEIGHTS, data)
    config.write(student.config, Path(folder), **{HASH: sha256_bytes(data)}, **hashes)


def load(folder: str | Path) -> Student:
    """Read a student, in evaluation mode, on the CPU.

    Raises:
        InputError: a file is missing, was changed or cut short, or does not fit its config.
    """
    values = config.read(folder)
    path = Path(folder) / WEIGHTS
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError("no such file", where=os.fspath(path)) from None
    if sha256_bytes(data) != values[HASH]:
        raise InputError(
            f"SHA-256 differs from the one in {CONFIG}: the file was changed or cut short",
            where=os.fspath(path),
            hint="fetch both files again",
        )
    student = Student(config.parse(values, folder))
    try:
        student.load_state_dict(from_bytes(data), strict=True)
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"does not fit {CONFIG} ({brief(error)})", where=os.fspath(path)) from None
    return student.to(memory_format=torch.channels_last).eval()
