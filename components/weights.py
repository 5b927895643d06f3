"""Third-party weights that exist only as `.pth`: the one function of the project that reads them.

Everything the project writes itself is safetensors.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from components.errors import InputError


def load_third_party(path: str | Path, sha256: str | None) -> dict[str, Tensor]:
    """Read a state dict from a `.pth`, its SHA-256 checked first.

    Args:
        path: the file.
        sha256: 64 hex digits the file must have; None only where the caller records the file's own
            hash instead (a checkpoint of the user's making).

    Returns:
        Names to tensors, on the CPU.

    Raises:
        InputError: missing file, other hash, or anything but a flat mapping of names to tensors.
    """
    try:
        # One handle for both, so the bytes that were hashed are the bytes that are read.
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            if sha256 is not None and found != sha256:
                raise InputError(
                    f"SHA-256 is {found}, expected {sha256}",
                    where=str(path),
                    mend="fetch the file again",
                )
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError("no such file", where=str(path)) from None
    except (InputError, MemoryError, OSError):
        raise
    except Exception as error:  # torch's reader raises almost anything on a hostile file
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"not a checkpoint of plain tensors ({type(error).__name__}: {reason})",
            where=str(path),
            mend="give a .pth with a plain dictionary of tensors, or fetch the official one",
        ) from None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise InputError("not a flat mapping of names to tensors", where=str(path))
    return dict(state)
