"""Evidence for the gates: read from what the stages wrote, and the comparison with the champion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from components.data.manifest import MANIPULATED
from components.errors import InputError
from components.evaluation.statistics import paired_difference
from components.files import read_json, sha256_file
from components.params import Evaluate
from components.registry.gates import Comparison, Evidence


def gather(
    runs: Path,
    dataset: str,
    *,
    dirty: Sequence[str] | None,
    champion: int | None,
    comparison: Comparison | None,
) -> Evidence:
    """Read what the stages recorded; a file that is missing or malformed becomes None.

    Args:
        runs: the folder of the stages' outputs.
        dataset: the prepared data set, whose test split decides.
        dirty: uncommitted paths; None where unknown.
        champion: the reigning champion, None for none.
        comparison: from `compare`, against that champion.
    """
    places = {
        "validation": runs / "validate/result.json",
        "evaluation": runs / "evaluate" / dataset / "metrics.json",
        "parity": runs / "export/parity.json",
    }
    read = {name: _mapping(path) for name, path in places.items()}
    hashes = {name: sha256_file(path) for name, path in places.items() if path.is_file()}
    return Evidence(
        validation=read["validation"],
        metrics=read["evaluation"],
        parity=read["parity"],
        dirty=dirty,
        comparison=comparison,
        champion=champion,
        hashes=hashes,
    )


def _mapping(path: Path) -> dict[str, Any] | None:
    try:
        value = read_json(path)
    except InputError:
        return None
    return value if isinstance(value, dict) else None


def compare(
    champion: int, candidate: pd.DataFrame, reigning: pd.DataFrame, params: Evaluate
) -> Comparison:
    """Paired F1 of two versions over the same manipulated photos.

    Args:
        champion: the reigning version.
        candidate: `Evaluation.images` of the new version.
        reigning: the same of the champion, scored by the same code on the same photos.
        params: resamples, confidence and seed of the interval.

    Raises:
        InputError: the two were not scored on the same photos.
    """
    ours, theirs = _manipulated(candidate), _manipulated(reigning)
    if not ours.index.equals(theirs.index):
        raise InputError(
            f"the version and champion {champion} were scored on different photos "
            f"({len(ours)} and {len(theirs)})",
            mend="run `iml run` again, which scores both",
        )
    try:
        interval = paired_difference(
            ours["f1"].to_numpy(dtype=float),
            theirs["f1"].to_numpy(dtype=float),
            ours["group"].tolist(),
            resamples=params.bootstrap,
            confidence=params.confidence,
            seed=params.seed,
        )
    except ValueError as error:
        raise InputError(
            f"the version cannot be compared with champion {champion} ({error})"
        ) from None
    return Comparison(
        champion=champion,
        candidate_f1=_mean(ours),
        champion_f1=_mean(theirs),
        difference=interval.value,
        low=interval.low,
        high=interval.high,
        n=interval.n,
    )


def _manipulated(images: pd.DataFrame) -> pd.DataFrame:
    rows = images[images["label"] == MANIPULATED]
    if rows["image_id"].duplicated().any():
        raise InputError("a photo was scored twice")
    return rows.set_index("image_id").sort_index()


def _mean(rows: pd.DataFrame) -> float | None:
    value = rows["f1"].astype(float).mean()
    return None if pd.isna(value) else float(value)
