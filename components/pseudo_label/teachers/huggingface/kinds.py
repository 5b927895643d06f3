"""The kinds of models that are teachers, by the `model_type` of their configuration."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from components.core.errors import InputError
from components.core.files import read_json


class Kind(NamedTuple):
    """Classes of transformers: the model, and what prepares its photos."""

    model: str
    images: str


# Published SAM 2 and EdgeTAM are for videos; the part that sees one picture is the same.
KINDS = {
    "sam": Kind("SamModel", "SamImageProcessor"),
    "sam_hq": Kind("SamHQModel", "SamImageProcessor"),
    "sam2": Kind("Sam2Model", "Sam2ImageProcessor"),
    "sam2_video": Kind("Sam2Model", "Sam2ImageProcessor"),
    "edgetam": Kind("EdgeTamModel", "Sam2ImageProcessor"),
    "edgetam_video": Kind("EdgeTamModel", "Sam2ImageProcessor"),
}


def check(config: Path) -> str:
    """The kind that a `config.json` names; InputError for a model that is no teacher."""
    values = read_json(config)
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind not in KINDS:
        raise InputError(
            f"a model of type {kind!r} answers no boxes",
            where=str(config),
            hint="take a SAM, SAM-HQ, SAM 2, SAM 2.1 or EdgeTAM",
        )
    return str(kind)
