"""How far the exported student's answers are from those of the same student in torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from components.core.errors import InputError
from components.core.images import open_photo
from components.core.metrics import image_score
from components.core.progress import Progress
from components.core.seeds import generator
from components.serving.predictor import Predictor
from components.serving.sources import walk
from components.student import infer, store


def bench_answers(
    folder: Path, data: Path, limit: int | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """The greatest differences between both over a folder of photos.

    Args:
        folder: the student's, with its weights and its graph.
        data: the photos, with those in sub-folders.
        limit: how many, a seeded sample; None for all.
        progress: called with photos.

    Returns:
        `photos`; of their probabilities and scores the greatest difference, and the share of
        pixels whose 8-bit mask is the same.

    Raises:
        InputError: no photos, or no student.
    """
    photos = list(walk(data, folder))
    if not photos:
        raise InputError("no photos in it", where=str(data))
    if limit is not None and limit < len(photos):
        chosen = generator(0, "answers").choice(len(photos), limit, replace=False)
        photos = [photos[place] for place in sorted(chosen)]
    student, predictor = store.load(folder).eval(), Predictor(folder)
    furthest, score, same = 0.0, 0.0, []
    for number, path in enumerate(photos, 1):
        photo = open_photo(path)
        (expected,), (found,) = infer.probabilities(student, [photo]), predictor.predict([photo])
        furthest = max(furthest, float(np.abs(found.probability - expected).max()))
        score = max(score, abs(found.score - image_score(expected)))
        same.append(float((found.grey() == np.rint(expected * 255)).mean()))
        if progress:
            progress(number, len(photos))
    return {
        "photos": len(photos),
        "probability": furthest,
        "score": score,
        "same_mask_bytes": float(np.mean(same)),
    }
