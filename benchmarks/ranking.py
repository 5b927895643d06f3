"""What the orders of `iml annotate` are worth: active choice, and wrong labels found.

`bench_choice`: students that learn the same number of boxes in the same number of steps, chosen at
random or by expected gain. `bench_doubt`: labels made wrong on purpose, and how many of them are
among the first photos of the order.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from components.annotate.doubt import doubts
from components.annotate.folds import trained
from components.annotate.ranking import Photo, rank
from components.core import images
from components.core.params import Distill, Params
from components.core.paths import DISTILL_CACHE, state_dir
from components.core.seeds import generator
from components.data import dataset as datasets
from components.data.build import build
from components.data.dataset import PHOTOS
from components.data.manifest import AUTHENTIC, MANIPULATED
from components.distill.cache import Decoded, decoded
from components.distill.examples import Example, collect
from components.evaluate.run import evaluate
from components.evaluate.statistics import paired_difference
from components.export import onnx
from components.pseudo_label.label import label_dataset
from components.serving.predictor import Predictor

# Shares of the boxes: drawn at random for both, and what each round by gain ends with
START, QUARTER, THIRD, HALF = 0.125, 0.25, 1 / 3, 0.5
# Compared: by gain, at random; the last at two thirds of the boxes
PAIRS = {"quarter": (QUARTER, QUARTER), "half": (HALF, HALF), "third_to_half": (THIRD, HALF)}

FIRST = 0.1  # of the photos, looked at by doubt
MOVED, CALLED, LEFT_OUT = "box elsewhere", "authentic called manipulated", "box left out"
MISTAKES = (MOVED, CALLED, LEFT_OUT)


@dataclass(frozen=True)
class _Course:
    """A data set's photos, and where trainings and students are kept."""

    data: Decoded
    examples: list[Example]
    test: pd.DataFrame  # rows of the manifest
    root: Path  # of the data set
    folder: Path
    settings: Params
    steps: int

    def pool(self) -> list[int]:
        """Rows of the training photos with a box."""
        return [row for row in self.data.train.tolist() if self.data.manipulated[row]]

    def student(self, boxes: Sequence[int], seed: int) -> Predictor:
        """A student that learnt these boxes and some authentic photos."""
        authentic = [row for row in self.data.train.tolist() if not self.data.manipulated[row]]
        authentic = generator(seed, "authentic").permutation(authentic).tolist()
        learn = np.sort([*authentic[: round(QUARTER * len(self.pool()))], *boxes])
        wanted = _for_steps(self.settings.distill, len(learn), self.steps, seed)
        made = trained(self.data, learn, self.data.val, wanted, state_dir() / DISTILL_CACHE)
        onnx.save(made, self.folder / "student")
        return Predictor(self.folder / "student", wanted.threads)

    def tested(self, predictor: Predictor) -> pd.DataFrame:
        """Its results, a row for each test photo."""
        found = evaluate(predictor.probabilities, self.test, self.root, self.settings.evaluate)
        return found.images.set_index("image_id")

    def by_gain(self, predictor: Predictor, boxes: Sequence[int], seed: int) -> list[int]:
        """The rest of the pool by expected gain."""
        rest = {self.examples[row].image_id: row for row in self.pool() if row not in set(boxes)}
        photos = [Photo(name, _reader(self.examples[row])) for name, row in rest.items()]
        return [rest[one.name] for one in rank(photos, "gain", predictor, seed)]


def _reader(example: Example) -> Any:
    return lambda: images.read_bytes(example.photo)


def _for_steps(params: Distill, photos: int, steps: int, seed: int) -> Distill:
    """The settings of a training of about so many steps, without generated splices.

    They would teach the student without any box, which is not what is compared.
    """
    epochs = max(1, round(steps / math.ceil(photos / params.batch)))
    return params.model_copy(update={"epochs": epochs, "seed": seed, "splices": 0.0})


def bench_choice(
    root: Path, folder: Path, settings: Params, seeds: Sequence[int], steps: int
) -> dict[str, Any]:
    """F1 on the test split after a quarter and half of the boxes, chosen by gain and at random.

    Both start with the same eighth of the boxes, drawn at random; by gain, the student of each
    round chooses what the next one learns in addition. Authentic photos cost no box: every student
    learns the same ones, as many as a quarter of the boxes.

    Args:
        root: the data set's folder.
        folder: for pseudo-masks and students.
        settings: params.yaml; splices are off.
        seeds: one run each.
        steps: of the optimiser, per training.

    Returns:
        For each of `PAIRS` the mean F1 of both, their differences by seed, and the mean one with
        its interval over source groups, a photo's F1 being the mean of the seeds.
    """
    course = _course(root, folder, settings, steps)
    runs = [_run(course, seed) for seed in seeds]
    report: dict[str, Any] = {"boxes": len(course.pool()), "steps": steps}
    for name, (chosen, drawn) in PAIRS.items():
        by_gain, at_random = (
            [run[key] for run in runs] for key in (("gain", chosen), ("random", drawn))
        )
        report[name] = _compared(by_gain, at_random, settings)
    return report


def _course(root: Path, folder: Path, settings: Params, steps: int) -> _Course:
    manifest, _ = build(root, settings.prepare)
    learn = manifest.where(manifest.images["split"] != "test")
    label_dataset(learn, root, settings.pseudo_label, folder / "pseudo", folder / "cache")
    examples = collect(learn, root, folder / "pseudo", settings.distill)
    data = decoded(examples, settings.distill, state_dir() / DISTILL_CACHE / "data")
    test = manifest.select("test").images
    return _Course(data, examples, test, root, folder, settings, steps)


def _run(course: _Course, seed: int) -> dict[tuple[str, float], pd.DataFrame]:
    """Test results of one seed's students by (order, share of the boxes)."""
    order = generator(seed, "choice").permutation(course.pool()).tolist()

    def first(share: float) -> int:
        return round(share * len(order))

    results = {}
    boxes = order[: first(START)]
    student = course.student(boxes, seed)
    for share in (QUARTER, THIRD, HALF):
        rest = course.by_gain(student, boxes, seed)
        boxes = [*boxes, *rest[: first(share) - len(boxes)]]
        student = course.student(boxes, seed)
        results["gain", share] = course.tested(student)
    for share in (QUARTER, HALF):
        results["random", share] = course.tested(course.student(order[: first(share)], seed))
    return results


def _compared(
    gain: Sequence[pd.DataFrame], random: Sequence[pd.DataFrame], settings: Params
) -> dict[str, Any]:
    """Mean F1 of both, and the paired difference."""
    manipulated = gain[0].index[gain[0]["f1"].notna()]
    both = [
        np.mean([run.loc[manipulated, "f1"] for run in runs], axis=0) for runs in (gain, random)
    ]
    pairs = zip(gain, random, strict=True)
    return {
        "gain": float(both[0].mean()),
        "random": float(both[1].mean()),
        "by_seed": [float((a["f1"] - b["f1"]).mean()) for a, b in pairs],
        "difference": paired_difference(
            both[0],
            both[1],
            gain[0].loc[manipulated, "group"],
            resamples=settings.evaluate.bootstrap,
            confidence=settings.evaluate.confidence,
            seed=settings.evaluate.seed,
        ).as_dict(),
    }


def bench_doubt(
    root: Path, folder: Path, settings: Params, seeds: Sequence[int], share: float = 0.05
) -> dict[str, Any]:
    """How many labels made wrong on purpose are among the first photos by doubt.

    Args:
        root: a data set whose labels are right.
        folder: for copies of it, by seed.
        settings: params.yaml.
        seeds: one copy each.
        share: of the photos, whose labels are made wrong.

    Returns:
        On average and for each seed `recall` and `precision` among the first `FIRST` of the
        photos; recall by kind of mistake.
    """
    rows = []
    for seed in seeds:
        copy = folder / f"{root.name}-{seed}"
        wrong = plant(root, copy, share, seed)
        order = [row.name for row in doubts(copy, settings)]
        first = order[: round(FIRST * len(order))]
        rows += [(seed, kind, name in first, len(first)) for name, kind in wrong.items()]
    found = pd.DataFrame(rows, columns=["seed", "kind", "found", "first"])
    by_seed = found.groupby("seed")
    recall = by_seed["found"].mean()
    precision = by_seed["found"].sum() / by_seed["first"].max()
    return {
        "recall": {"mean": float(recall.mean()), **recall.to_dict()},
        "precision": {"mean": float(precision.mean()), **precision.to_dict()},
        "recall_by_kind": found.groupby("kind")["found"].mean().to_dict(),
    }


def plant(root: Path, copy: Path, share: float, seed: int) -> dict[str, str]:
    """Copy a data set without its masks and make labels wrong; the kind of mistake by photo.

    In turn: a box moved to another place, an authentic photo called manipulated (with a box of
    another photo's size), and a box left out (a photo's only one: then it is called authentic).
    """
    dataset = datasets.load(root)
    wrong: dict[str, str] = {}
    draw = generator(seed, "plant")
    photos = [{k: v for k, v in row.items() if k != "mask"} for row in dataset.images]
    boxes = [dict(row) for row in dataset.annotations]
    for row in draw.permutation(np.array(photos, object)):
        if len(wrong) == round(share * len(photos)):
            break
        kind = MISTAKES[len(wrong) % len(MISTAKES)]
        if _mistake(kind, row, boxes, draw):
            wrong[row["file_name"]] = kind
    if not copy.exists():
        shutil.copytree(root / PHOTOS, copy / PHOTOS)
    datasets.save(replace(dataset, root=copy, boxes="given", images=photos, annotations=boxes))
    return wrong


def _mistake(
    kind: str, photo: dict[str, Any], boxes: list[dict[str, Any]], draw: np.random.Generator
) -> bool:
    """Make a photo's label wrong, in place; False where this mistake cannot be made of it."""
    own = [box for box in boxes if box["image_id"] == photo["id"]]
    if (kind == CALLED) != (photo["label"] == AUTHENTIC):
        return False
    if kind == CALLED:
        size = boxes[int(draw.integers(len(boxes)))]["bbox"][2:]
        photo["label"] = MANIPULATED
        number = 1 + max(int(box["id"]) for box in boxes)
        place = _place(
            photo, [0.9 * min(size[0], photo["width"]), 0.9 * min(size[1], photo["height"])], draw
        )
        boxes.append({"id": number, "image_id": photo["id"], "category_id": 1, "bbox": place})
        return True
    if kind == LEFT_OUT:
        boxes.remove(own[int(draw.integers(len(own)))])
        photo["label"] = MANIPULATED if len(own) > 1 else AUTHENTIC
        return True
    tries = [_place(photo, own[0]["bbox"][2:], draw) for _ in range(100)]
    apart = [place for place in tries if not any(_touch(place, box["bbox"]) for box in own)]
    if apart:
        own[0]["bbox"] = apart[0]
    return bool(apart)


def _place(photo: dict[str, Any], size: Sequence[float], draw: np.random.Generator) -> list[float]:
    """A box of this size anywhere in a photo: x, y, width, height."""
    x, y = draw.uniform(0, photo["width"] - size[0]), draw.uniform(0, photo["height"] - size[1])
    return [float(x), float(y), float(size[0]), float(size[1])]


def _touch(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(
        one[side] < other[side] + other[side + 2] and other[side] < one[side] + one[side + 2]
        for side in (0, 1)
    )
