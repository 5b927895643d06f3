"""Stage `evaluate`: score the distilled student on one data set.

`python -m components.evaluate DATASET` writes runs/evaluate/DATASET/. A prepared data set is scored
on its test split, as the manifest has it; any other on the photos it holds back itself, less those
that the student knows from training.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from components.core import params as parameters
from components.core.errors import InputError, exit_on_error
from components.core.params import Params
from components.core.paths import DATA, EVALUATED, EXPORTED, PREPARED, PSEUDO_MASKS
from components.core.progress import lines
from components.data import manifest
from components.data.manifest import Manifest
from components.evaluate import report
from components.evaluate.calibration import Calibration
from components.evaluate.gallery import Album
from components.evaluate.source import held_back, unseen
from components.student import config
from components.student.runtime import Runtime


def photos(dataset: str, params: Params) -> tuple[Manifest, str]:
    """The photos to score, and which they are in words.

    Of another data set than the prepared ones, those that resemble photos trained or tuned on are
    left out.
    """
    prepared = manifest.read(PREPARED)
    if dataset in params.prepare.datasets:
        found = prepared.select(split="test", dataset=dataset)
        if found.images.empty:
            raise InputError(
                f"no photos of {dataset} in the test split",
                where=str(PREPARED),
                hint="raise prepare.split.test in params.yaml, or give the data set a test split",
            )
        return found, "test split"
    held, which = held_back(DATA / dataset, params.prepare)
    count = len(held.images)
    fresh = unseen(held, prepared.images, params.prepare.near_duplicate_bits)
    if fresh.images.empty:
        raise InputError(
            f"all {count} photos to score resemble photos that the student was trained on",
            where=str(DATA / dataset),
            hint="name another data set in evaluate.datasets",
        )
    left = count - len(fresh.images)
    return fresh, f"{which}, {left} left out that resemble training photos" if left else which


def score(dataset: str, params: Params) -> None:
    """Evaluate the student and write figures, table and pages (see `report.write`)."""
    found, which = photos(dataset, params)
    prepared = dataset in params.prepare.datasets
    root, masks = (DATA, PSEUDO_MASKS) if prepared else (DATA / dataset, None)
    album = Album(found, root, masks)
    student = Runtime(EXPORTED, params.evaluate.threads)
    network = config.parse(config.read(EXPORTED), EXPORTED)
    about = {
        "Data set": f"{dataset}, {which}",
        "Model": f"{network.backbone} at {network.size} pixels",
        "Weights (SHA-256)": student.weights_sha256,
    }
    report.produce(
        student.probabilities,
        album,
        params.evaluate,
        about,
        EVALUATED / dataset,
        lambda part: lines(f"{dataset}, {part}"),
        Calibration(network.temperature, network.image_threshold),
    )


def main(arguments: Sequence[str]) -> None:
    """Score the one data set named on the command line."""
    params = parameters.load()
    if len(arguments) != 1 or arguments[0] not in params.evaluate.datasets:
        known = ", ".join(params.evaluate.datasets)
        raise InputError(
            f"expected one data set of evaluate.datasets ({known}), not {' '.join(arguments)!r}",
            where="evaluate",
        )
    score(arguments[0], params)


if __name__ == "__main__":
    with exit_on_error():
        main(sys.argv[1:])
