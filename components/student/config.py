"""`student.json`: what a student is, and the SHA-256 of the files beside it.

It carries one of everything else in itself too, so a file that was cut short or changed is one
clear error and never a network that answers nonsense. Reading it needs no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from components.core.errors import InputError
from components.core.files import canonical_json, read_json, sha256_json, write_json
from components.core.params import Network, Share

WEIGHTS, CONFIG, GRAPH = "student.safetensors", "student.json", "student.onnx"
HASH, GRAPH_HASH, OWN_HASH = "weights_sha256", "onnx_sha256", "config_sha256"
Triple = tuple[float, float, float]


class StudentConfig(Network):
    """With the weights, everything that loading a student needs: its network and what it learnt."""

    format: Literal[1] = 1  # version of this file
    mean: Triple  # per channel, subtracted from photos in [0, 1]
    std: Triple  # per channel, divides them afterwards
    # Divides the logits; fitted on validation photos, 1 where it was not
    temperature: Annotated[float, Field(gt=0)] = 1.0
    # Image scores above it mean a manipulated photo; set on validation photos, None where they
    # were of one class only or not used
    image_threshold: Share | None = None


def write(config: StudentConfig, folder: Path, **hashes: str) -> None:
    """Write `student.json` with the hashes of the files that it vouches for, atomically."""
    values = {"format": config.format} | config.model_dump(mode="json") | hashes  # format first
    write_json(folder / CONFIG, values | {OWN_HASH: sha256_json(values)})


def read(folder: str | Path) -> dict[str, Any]:
    """The values of `student.json`, of this schema or a later one.

    Raises:
        InputError: no such file, one that was changed, or one without the weights' hash.
    """
    path = Path(folder) / CONFIG
    values = read_json(path)
    digest = values.pop(OWN_HASH, None) if isinstance(values, dict) else None
    if not isinstance(digest, str):
        hint = "train the student again, e.g. with `iml run`"
        raise InputError(f"{OWN_HASH} is missing", where=str(path), hint=hint)
    try:
        same = sha256_json(values) == digest
    except ValueError:  # NaN, or half a character: nothing that `write` wrote
        same = False
    if not same:
        raise InputError(
            f"SHA-256 differs from {OWN_HASH}: the file was changed",
            where=str(path),
            hint="fetch both files again",
        )
    if not isinstance(values.get(HASH), str):
        raise InputError(f"{HASH} is missing", where=str(path))
    return values


def parse(values: dict[str, Any], folder: str | Path) -> StudentConfig:
    """What `read` returned as a config of today; raises InputError where it is none."""
    network = {key: value for key, value in values.items() if key not in (HASH, GRAPH_HASH)}
    try:
        return StudentConfig.model_validate_json(canonical_json(network))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        raise InputError(f"{key}: {first['msg']}", where=str(Path(folder) / CONFIG)) from None
