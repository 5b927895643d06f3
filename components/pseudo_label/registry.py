"""The teachers, found in `components.pseudo_label.teachers`: a new one is one new file there.

A family has the `SPECS` of its teachers. One that has more than it can list also has `named`, which
makes the spec of a teacher from its name, and `fetched`, those of them that are on disk.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from components.core.errors import InputError
from components.core.params import PseudoLabel
from components.pseudo_label import teachers
from components.pseudo_label.cache import maker
from components.pseudo_label.candidates import Identity, Teacher
from components.pseudo_label.checkpoints import NO_WEIGHTS, Checkpoint, Weights
from components.pseudo_label.hub import UNKNOWN, Folder, Published

# What makes every teacher's masks.
SHARED = tuple(f"components.pseudo_label.{part}" for part in ("candidates", "prompts", "quality"))


@dataclass(frozen=True)
class TeacherSpec:
    """All that is known of a teacher before it is built.

    Attributes:
        name: as in params.yaml.
        kind: what it is, for people.
        build: makes it from params and its checkpoint (None where it needs none), which is checked
            when it is opened; heavy libraries are imported only here.
        modules: whose code makes its masks, besides `SHARED`; masks are kept by their hash.
        libraries: distributions whose version decides its masks, besides NumPy and OpenCV.
        weights: as published, or a model in a folder; None for code alone.
        licence: of the weights as published, or of the code.
    """

    name: str
    kind: str
    build: Callable[[PseudoLabel, Checkpoint | None], Teacher]
    modules: tuple[str, ...]
    libraries: tuple[str, ...] = ()
    weights: Weights | Folder | None = None
    licence: str = "Apache-2.0"


@functools.cache
def _families() -> list[ModuleType]:
    places = pkgutil.iter_modules(teachers.__path__, f"{teachers.__name__}.")
    return [importlib.import_module(place.name) for place in places]


@functools.cache
def specs() -> dict[str, TeacherSpec]:
    """Every listed teacher by name, those that need no weights first, then by size."""
    found = [spec for family in _families() for spec in family.SPECS]
    found.sort(key=lambda spec: (spec.weights.size if spec.weights else 0, spec.name))
    return {spec.name: spec for spec in found}


def fetched() -> Iterator[TeacherSpec]:
    """Teachers beyond the listed ones whose weights are on disk."""
    for family in _families():
        if hasattr(family, "fetched"):
            yield from family.fetched()


def find(name: str) -> TeacherSpec | None:
    """The teacher of this name, or None; raises InputError for a name that is not well formed."""
    if spec := specs().get(name):
        return spec
    made = (family.named(name) for family in _families() if hasattr(family, "named"))
    return next((spec for spec in made if spec), None)


def get(name: str) -> TeacherSpec:
    """The teacher of this name; raises InputError where there is none."""
    if spec := find(name):
        return spec
    near = get_close_matches(name, specs(), 1)
    raise InputError(
        f"no teacher is called {name!r}" + (f", did you mean {near[0]}?" if near else ""),
        where="pseudo_label.teacher",
        hint=f"choose one of {', '.join(specs())}",
    )


def build(params: PseudoLabel) -> Teacher:
    """The teacher that `params.teacher` names.

    Raises InputError for an unknown name, or weights that are missing, unreachable, damaged or of
    another model.
    """
    spec = get(params.teacher)
    return spec.build(params, locate(spec, params.checkpoint))


def identity(teacher: Teacher) -> Identity:
    """What the masks of a built teacher depend on."""
    spec = get(teacher.name)
    made_by = maker((*SHARED, *spec.modules), spec.libraries)
    return Identity(teacher.name, teacher.sha256, teacher.margin, teacher.settings, made_by)


def licence(teacher: str, sha256: str) -> str | None:
    """Of the weights that were used; `unknown` of a user's own; None where there are none."""
    spec = get(teacher)
    if spec.weights is None:
        return None
    return spec.licence if spec.weights.sha256 == sha256 else UNKNOWN


def downloadable(name: str) -> Weights | Published:
    """The weights of a teacher that publishes them elsewhere; raises InputError for any other."""
    spec = find(name)
    weights = spec.weights if spec else None
    if isinstance(weights, Published) or (isinstance(weights, Weights) and weights.address):
        return weights
    known = [n for n, s in specs().items() if isinstance(s.weights, Weights) and s.weights.address]
    raise InputError(f"{name!r} has no weights to fetch", hint=f"choose one of {', '.join(known)}")


def locate(spec: TeacherSpec, checkpoint: str) -> Checkpoint | None:
    """The weights of a teacher: a local file of the user's, else the published one; None without.

    Raises InputError where there is no such file, or it cannot be fetched. A file that has the name
    of a published one must be that one; its bytes are checked when it is opened.
    """
    weights = spec.weights
    if weights is None:
        return None
    if isinstance(weights, Folder):
        if checkpoint:
            what = f"{spec.name} takes no file of weights"
            raise InputError(what, where="pseudo_label.checkpoint", hint="leave it empty")
        return Checkpoint(weights.fetch())
    if not checkpoint:
        return Checkpoint(weights.path if weights.path.exists() else weights.fetch(), weights)
    path = Path(checkpoint)
    if not path.is_file():
        raise InputError(
            "no such file", where=f"pseudo_label.checkpoint: {checkpoint}", hint=NO_WEIGHTS
        )
    known = (w for other in specs().values() if isinstance(w := other.weights, Weights))
    return Checkpoint(path, next((w for w in known if w.address and w.file == path.name), None))
