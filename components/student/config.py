"""`student.json`: what a student is, and the SHA-256 of the files beside it.

It carries one of everything else in itself too, so a file that was cut short or changed is one
clear error and never a network that answers nonsense. Reading it needs no torch.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from components.core.errors import InputError
from components.core.files import canonical_json, read_json, sha256_json, write_json
from components.core.params import Network, Share

WEIGHTS, CONFIG, GRAPH = "student.safetensors", "student.json", "student.onnx"
HASH, GRAPH_HASH, OWN_HASH = "weights_sha256", "onnx_sha256", "config_sha256"
Triple = tuple[float, float, float]
_KEPT = 1001  # scores; of more photos those of every n-th rank tell a rate to 0.1 %


class Scores(BaseModel):
    """Image scores of some photos."""

    model_config = Network.model_config
    n: Annotated[int, Field(ge=0)]  # photos
    # Ascending: all of them, or, of more than 1001 photos, 1001 from the lowest to the highest,
    # evenly spaced by rank
    kept: tuple[Share, ...]

    @classmethod
    def of(cls, scores: Iterable[float]) -> Scores:
        """Keep the scores of photos in any order."""
        ordered = sorted(round(float(score), 6) for score in scores)
        return cls(n=len(ordered), kept=tuple(ordered[rank] for rank in _ranks(len(ordered))))

    def at_least(self, score: float) -> int:
        """How many photos have at least this score; at most so many where not all are kept."""
        place = bisect_left(self.kept, score)
        return self.n - (_ranks(self.n)[place - 1] + 1 if place else 0)


def _ranks(n: int) -> list[int]:
    """The ranks, from 0, of the scores that are kept of `n` photos."""
    steps = min(n, _KEPT) - 1
    return [round(step * (n - 1) / max(steps, 1)) for step in range(steps + 1)]


class ValidationScores(BaseModel):
    """What the calibrated student answers to its validation photos, and how they were shown."""

    model_config = Network.model_config
    format: Literal[1] = 1  # version of this block
    side: Annotated[int, Field(ge=1)]  # pixels; larger photos were shrunk to it
    jpeg_quality: tuple[int, int]  # from, to; each photo was saved once more with one of these
    authentic: Scores
    manipulated: Scores


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
    # Students made before it was kept, and those without validation photos, have none
    validation_scores: ValidationScores | None = None


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
