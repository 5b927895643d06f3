"""SAM, SAM-HQ, SAM 2, SAM 2.1 and EdgeTAM in Hugging Face format, by the library transformers.

    hf:facebook/sam2.1-hiera-small@COMMIT   # of a model hub at a commit, fetched once
    hf:models/own                           # a folder that `save_pretrained` wrote

A commit always has the same bytes; a branch or tag is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from components.core.errors import InputError
from components.core.params import PseudoLabel
from components.core.paths import WEIGHTS, state_dir
from components.pseudo_label.candidates import Teacher
from components.pseudo_label.checkpoints import Checkpoint
from components.pseudo_label.hub import Folder, Published
from components.pseudo_label.registry import TeacherSpec
from components.pseudo_label.teachers.huggingface.kinds import check

_PREFIX = "hf:"
_FORMS = f"{_PREFIX}ORGANIZATION/NAME@COMMIT (40 hexadecimal digits) or {_PREFIX}FOLDER"
_PUBLISHED = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)@([0-9a-f]{40})")
# Modules and libraries that make their masks.
_MADE_BY = (
    (
        *(f"{__name__}.{part}" for part in ("model", "kinds")),
        *(f"components.pseudo_label.{part}" for part in ("encoding", "networks")),
        "components.core.seeds",
    ),
    ("torch", "torchvision", "timm", "transformers"),
)

SPECS = ()  # there are as many as models: see `named`


def named(name: str) -> TeacherSpec | None:
    """The teacher of a name that begins with `hf:`, None for another; nothing is fetched.

    Raises InputError where it names neither a commit of a model nor a folder.
    """
    if not name.startswith(_PREFIX):
        return None
    place = name.removeprefix(_PREFIX)
    if found := _PUBLISHED.fullmatch(place):
        model, commit = found.groups()
        return _spec(name, Published(_fetched() / model / commit, model, commit, check))
    if not Path(place).is_dir():
        raise InputError(
            "there is no such folder, and it names no commit of a model",
            where=f"pseudo_label.teacher: {name}",
            hint=f"write {_FORMS}",
        )
    return _spec(name, Folder(Path(place)))


def fetched() -> Iterator[TeacherSpec]:
    """Those of a hub that are on disk."""
    for place in sorted(_fetched().glob("*/*/*/")):
        spec = named(f"{_PREFIX}{place.parent.relative_to(_fetched())}@{place.name}")
        if spec and spec.weights and spec.weights.on_disk():
            yield spec


def _fetched() -> Path:
    return state_dir() / WEIGHTS / "hf"


def _spec(name: str, weights: Folder) -> TeacherSpec:
    def build(params: PseudoLabel, checkpoint: Checkpoint | None) -> Teacher:
        from components.pseudo_label.teachers.huggingface.model import load

        return load(name, weights, params.margin, params.threads, made_by=_MADE_BY)

    return TeacherSpec(
        name=name,
        kind="Hugging Face format",
        build=build,
        modules=_MADE_BY[0],
        libraries=_MADE_BY[1],
        weights=weights,
        licence=weights.licence,
    )
