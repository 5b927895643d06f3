"""Labels that are probably wrong: where boxes, teacher and a student that never saw them disagree.

Photos are judged in folds of whole source groups, each by a student that was trained on the other
folds' pseudo-masks: no student has learnt the label that it is asked about. These students are for
this alone; photos of every split are judged, and nothing else is trained or chosen by the result.

Against a box speaks a student that finds more outside than in it, and a teacher that is not
confident in its mask for it; against an authentic photo, a student that finds a region. Each counts
by its rank among the photos of that label, so that no scale of a teacher matters; mistakes of both
kinds of label are assumed to be about equally frequent.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import logit
from scipy.stats import rankdata

from components.annotate.folds import trained
from components.core.errors import InputError
from components.core.metrics import image_score
from components.core.params import Distill, Params
from components.core.paths import CACHE, DISTILL_CACHE, LABEL_CACHE, state_dir
from components.core.progress import Progress
from components.core.seeds import generator
from components.core.stream import batches
from components.data.build import build
from components.data.manifest import AUTHENTIC, Manifest
from components.distill.cache import Decoded, decoded
from components.distill.examples import collect
from components.evaluate.run import Loaded, load_all
from components.pseudo_label.label import boxes_by_photo, label_dataset
from components.pseudo_label.prompts import expand, fill, pixels
from components.student.infer import network

FOLDS = 3
EPOCHS = 8  # at most; later ones learn labels by heart
_SELECT = 6  # one in so many groups of the other folds chooses the best epoch
_CORE = 0.25  # share of a box, its most manipulated pixels, that speak for it
_SURE = 1e-4  # nothing is more certain
_AROUND = 0.15  # of a box's sides: what lies so near is not outside


class Doubt(NamedTuple):
    """What speaks against a photo's label."""

    name: str
    value: float  # share of the photos of this label that are no more doubtful; 0 if unreadable
    reason: str


class Evidence(NamedTuple):
    """What student and teacher say about a photo's label, all 0..1."""

    name: str
    inside: float  # how manipulated the least suspicious box looks to the student
    outside: float  # how manipulated the rest of the photo looks to it
    fit: float  # the teacher's confidence in its mask for the boxes


def doubts(root: Path, settings: Params, progress: Progress | None = None) -> list[Doubt]:
    """The photos of a labelled data set, the most doubtful label first; unreadable ones last.

    Pseudo-masks, decoded photos and trained students are kept by content: with the same data and
    parameters nothing is made again, and a run that was killed continues in its training.

    Args:
        root: the data set's folder.
        settings: params.yaml; the students are those of `distill`, trained for `EPOCHS` at most.
        progress: called with (photos judged, photos in all), after each fold's training.

    Raises:
        InputError: no usable data set, a box outside its photo, or too few source groups.
    """
    manifest, quarantine = build(root, settings.prepare)
    boxes = boxes_by_photo(manifest.boxes)
    fits, answers = _cross_validated(manifest, root, settings)
    boxed, authentic, certain = [], [], []
    for done, (one, probability) in enumerate(answers, 1):
        name = one.row["image_id"]
        if name in boxes:
            boxed.append(evidence(name, probability, boxes[name], fits.get(name, 1.0)))
        elif one.row["label"] == AUTHENTIC:
            authentic.append(Evidence(name, 1.0, image_score(probability), 1.0))
        else:
            certain.append(Doubt(name, 1.0, "manipulated, but without a box"))
        if progress:
            progress(done, len(manifest.images))
    found = sorted(
        of_boxes(boxed) + of_authentic(authentic), key=lambda row: (-row.value, row.name)
    )
    return certain + found + [Doubt(photo, 0.0, reason) for photo, reason in quarantine]


def evidence(name: str, probability: np.ndarray, boxes: np.ndarray, fit: float) -> Evidence:
    """What the student's answer float32 (H, W) says of boxes float64 (N, 4), N >= 1."""
    height, width = probability.shape
    inside, rest = [], probability.copy()
    for x0, y0, x1, y1 in (pixels(box, width, height) for box in boxes):
        inside.append(_highest(probability[y0:y1, x0:x1], _CORE))
    for box in expand(boxes, _AROUND, width, height):
        rest[fill(box, width, height)] = 0
    return Evidence(name, min(inside), image_score(rest), fit)


def of_boxes(photos: Sequence[Evidence]) -> list[Doubt]:
    """How doubtful the boxes of photos are."""
    elsewhere = _ranks([_odds(photo.outside) - _odds(photo.inside) for photo in photos])
    loose = _ranks([-photo.fit for photo in photos])
    return [
        Doubt(photo.name, float(value), _against(photo, own > other))
        for photo, own, other, value in zip(
            photos, elsewhere, loose, _ranks(elsewhere + loose), strict=True
        )
    ]


def _against(photo: Evidence, student: bool) -> str:
    """What speaks most against a photo's boxes: the student, or else the teacher."""
    if not student:
        return f"the box fits no object edge (the teacher's confidence is {photo.fit:.2f})"
    if photo.outside > photo.inside:
        return "the student finds a region outside every box, and little inside"
    return "the student finds little inside the box"


def of_authentic(photos: Sequence[Evidence]) -> list[Doubt]:
    """How doubtful it is that photos are authentic."""
    values = _ranks([photo.outside for photo in photos])
    return [
        Doubt(
            photo.name,
            float(value),
            f"authentic, but the student finds a region (score {photo.outside:.2f})",
        )
        for photo, value in zip(photos, values, strict=True)
    ]


def _odds(probability: float) -> float:
    """Its log odds: near 0 and 1 small differences count."""
    return float(logit(np.clip(probability, _SURE, 1 - _SURE)))


def _ranks(values: ArrayLike) -> np.ndarray:
    """Share of the values that are no larger than each, equal ones alike."""
    return rankdata(values) / max(1, np.size(values))


def _highest(values: np.ndarray, share: float) -> float:
    """Mean of the highest values."""
    taken = max(1, round(share * values.size))
    return float(np.sort(values, axis=None)[-taken:].mean())


def _cross_validated(
    manifest: Manifest, root: Path, settings: Params
) -> tuple[dict[str, float], Iterator[tuple[Loaded, np.ndarray]]]:
    """The teacher's confidence by photo, and every photo with a map by a student of other folds."""
    changes = {"epochs": min(EPOCHS, settings.distill.epochs), "supervision": "pseudo_masks"}
    params = settings.distill.model_copy(update={**changes, "share": 1.0})
    fold = _folds(manifest.images["group"], params.seed)
    # Who trains is decided for each fold; until then a split is a matter of form.
    formal = manifest.images.assign(split=np.where(fold == 0, "val", "train"))
    kept = state_dir() / CACHE
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept, prefix=".doubt-") as made:
        every, out = Manifest(formal, manifest.boxes), Path(made)
        labels = label_dataset(every, root, settings.pseudo_label, out, state_dir() / LABEL_CACHE)
        examples = collect(every, root, out, params)
        data = decoded(examples, params, state_dir() / DISTILL_CACHE / "data")
    about = manifest.images.assign(fold=fold).set_index("image_id")
    rows = about.loc[[example.image_id for example in examples], ["group", "fold"]]
    confidence = dict(zip(labels["image_id"], labels["confidence"], strict=True))
    return confidence, _answers(manifest.images, fold, root, data, rows, params)


def _folds(groups: pd.Series, seed: int) -> np.ndarray:
    """The fold of each photo, whole groups together."""
    names = sorted(groups.unique())
    if len(names) < 2 * FOLDS:
        raise InputError(f"{len(names)} source groups are too few to judge labels")
    place = {name: n % FOLDS for n, name in enumerate(generator(seed, "folds").permutation(names))}
    return groups.map(place).to_numpy()


def _answers(
    images: pd.DataFrame,
    fold: np.ndarray,
    root: Path,
    data: Decoded,
    rows: pd.DataFrame,
    params: Distill,
) -> Iterator[tuple[Loaded, np.ndarray]]:
    """Every photo, fold by fold, with the answer of that fold's student; trained as they go."""
    for number in range(FOLDS):
        others = np.flatnonzero(rows["fold"] != number)
        chosen = _selecting(rows["group"].to_numpy()[others], data.manipulated[others], params.seed)
        learn, select = others[~chosen], others[chosen]
        student = trained(data, learn, select, params, state_dir() / DISTILL_CACHE)
        photos = load_all(images[fold == number].assign(mask_path=None), root)
        for batch in batches(photos, lambda one: one.photo.size // 3):
            maps = network(student, [one.photo for one in batch])
            yield from zip(batch, maps, strict=True)


def _selecting(groups: np.ndarray, manipulated: np.ndarray, seed: int) -> np.ndarray:
    """Which photos choose the best epoch: of one in `_SELECT` groups, of each kind of group."""
    drawn: list[str] = []
    masked = set(groups[manipulated])
    for names in (sorted(masked), sorted(set(groups) - masked)):
        order = generator(seed, "select").permutation(np.array(names, object))
        drawn += order[: -(-len(names) // _SELECT)].tolist()
    return np.isin(groups, drawn)
