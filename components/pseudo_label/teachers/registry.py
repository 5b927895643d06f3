"""The registry of teachers: plain builder functions by name.

A builder imports what it needs when it is called, so that weight-free teachers start in worker
processes without loading torch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from components.core.errors import InputError
from components.core.params import PseudoLabel
from components.core.progress import Progress
from components.pseudo_label.candidates import Teacher


def build_box(params: PseudoLabel, progress: Progress | None = None) -> Teacher:
    """The filled box, as drawn."""
    from components.pseudo_label.teachers.baselines import Box

    return Box()


def build_grabcut(params: PseudoLabel, progress: Progress | None = None) -> Teacher:
    """OpenCV's GrabCut from the box."""
    from components.pseudo_label.teachers.baselines import GrabCut

    return GrabCut(params.margin, params.threads)


def build_sam_lite(params: PseudoLabel, progress: Progress | None = None) -> Teacher:
    """The project's own small SAM, from its own weights or those of `checkpoint`."""
    from components.pseudo_label.teachers.sam_lite import load_teacher

    return load_teacher(Path(params.checkpoint) if params.checkpoint else None, params.threads)


def build_sam(name: str, params: PseudoLabel, progress: Progress | None = None) -> Teacher:
    """An official Segment Anything model; fetches its checkpoint where it is not on disk."""
    from components.pseudo_label import checkpoints
    from components.pseudo_label.teachers import sam

    path = checkpoints.locate(name, params.checkpoint, progress)
    return sam.load(name, path, params.margin, params.threads)


TEACHERS: dict[str, Callable[[PseudoLabel, Progress | None], Teacher]] = {
    "box": build_box,
    "grabcut": build_grabcut,
    "sam_lite": build_sam_lite,
    "vit_b": partial(build_sam, "vit_b"),
    "vit_l": partial(build_sam, "vit_l"),
    "vit_h": partial(build_sam, "vit_h"),
}


def build(params: PseudoLabel, progress: Progress | None = None) -> Teacher:
    """The teacher that `params.teacher` names.

    Args:
        params: the block `pseudo_label` of params.yaml.
        progress: called with (bytes, total) while a checkpoint is downloaded.

    Raises:
        InputError: unknown name; a checkpoint missing, unreachable, damaged or of another model.
    """
    try:
        builder = TEACHERS[params.teacher]
    except KeyError:
        raise InputError(
            f"no teacher is called {params.teacher!r}",
            where="pseudo_label.teacher",
            hint=f"choose one of {', '.join(TEACHERS)}",
        ) from None
    return builder(params, progress)
