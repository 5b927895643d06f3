"""The exported student on ONNX Runtime: photos of any size in, probability maps out; no torch.

Sizes are handled as `components.student.infer` does in training, see there for the two views.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime

from components.core.errors import InputError, brief
from components.core.files import sha256_bytes
from components.student import config
from components.student.config import CONFIG, GRAPH, GRAPH_HASH
from components.student.copies import joined
from components.student.sizes import enlarge, shrink
from components.student.tiles import answers

BATCH = 8
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


def session(data: bytes, where: str, threads: int = 0, device: str = "cpu") -> Any:
    """An ONNX Runtime session of a file's bytes.

    Args:
        data: the file.
        where: its name in a message.
        threads: for one answer; 0 means all cores. They do not change answers by more than the
            rounding of float sums.
        device: a key of `PROVIDERS`.

    Raises:
        InputError: not an ONNX file, or a device that ONNX Runtime does not have here.
    """
    if device not in PROVIDERS:
        raise InputError(f"unknown device {device!r}", hint=f"one of {', '.join(PROVIDERS)}")
    if PROVIDERS[device] not in onnxruntime.get_available_providers():
        raise InputError(
            f"ONNX Runtime has no {device} here", hint="install onnxruntime-gpu, or use cpu"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it would print before it raises is in the error
    options.intra_op_num_threads = threads
    # Threads that wait actively would take the cores from those that read and write photos.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(data, options, providers=[PROVIDERS[device]])
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        raise InputError(f"not an ONNX file ({brief(error)})", where=where) from None


class Runtime:
    """A student loaded from a folder with `student.onnx` and `student.json`."""

    def __init__(self, folder: str | Path, threads: int = 0, device: str = "cpu") -> None:
        """Load and check it; parameters as of `session`.

        Raises:
            InputError: a file is missing, was changed or cut short, or is of another schema.
        """
        self._folder, self._threads, self._device = Path(folder), threads, device
        values, path = config.read(folder), self._folder / GRAPH
        self.weights_sha256: str = values[config.HASH]
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            hint = "run the stage `export`, and use its folder"
            raise InputError("no such file", where=str(path), hint=hint) from None
        # Students exported before it was recorded have no hash here; a version's signature has.
        if values.get(GRAPH_HASH, sha := sha256_bytes(data)) != sha:
            raise InputError(
                f"SHA-256 differs from the one in {CONFIG}: the file was changed or cut short",
                where=str(path),
                hint="fetch all files again",
            )
        try:
            self._size, self._overlap = int(values["size"]), float(values["overlap"])
            self._tiles = values["view"] == "tiles"
            self._copies = bool(values.get("copies", False))
        except (KeyError, TypeError, ValueError) as error:
            where = str(Path(folder) / CONFIG)
            raise InputError(f"of another schema ({brief(error)})", where=where) from None
        self._session = session(data, str(path), threads, device)
        self._input = self._session.get_inputs()[0].name

    def __reduce__(self) -> tuple[Any, ...]:
        """What travels to another process, which may have no such folder: both files."""
        files = {name: (self._folder / name).read_bytes() for name in (CONFIG, GRAPH)}
        return _loaded, (files, self._threads, self._device)

    def probabilities(self, photos: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Probability of "manipulated" per pixel, at each photo's own size.

        Args:
            photos: uint8 (H, W, 3) RGB, of any and differing sizes.

        Returns:
            One float32 (H, W) in [0, 1] per photo. Only these and one batch of squares are held.
        """
        overlap = self._overlap if self._tiles else None
        maps = answers(photos, self._size, overlap, self._squares, shrink, enlarge, BATCH)
        if not self._copies:
            return maps
        return [joined(found, photo) for found, photo in zip(maps, photos, strict=True)]

    def _squares(self, squares: np.ndarray) -> np.ndarray:
        """Probabilities float32 (B, S, S) of squares uint8 (B, S, S, 3)."""
        batch = np.ascontiguousarray(squares.transpose(0, 3, 1, 2), np.float32)
        batch /= 255
        return self._session.run(None, {self._input: batch})[0][:, 0]


def _loaded(files: Mapping[str, bytes], threads: int, device: str) -> Runtime:
    with TemporaryDirectory() as folder:
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
        return Runtime(folder, threads, device)
