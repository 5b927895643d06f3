"""The photos of a decision's page: worst, best, false alarms, and where two versions differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from components.data.manifest import AUTHENTIC
from components.evaluate.gallery import Album, Example
from components.evaluate.report import by_f1, by_false_alarm, facts
from components.evaluate.run import Predict

WORST, BEST, ALARMS, DIFFERENT = 20, 8, 12, 12  # photos of each section


@dataclass(frozen=True)
class Exhibit:
    """One version on the test photos.

    Attributes:
        version: its number.
        images: columns of `components.evaluate.run.IMAGES`.
        predict: the version itself.
    """

    version: int
    images: pd.DataFrame
    predict: Predict


def show(album: Album, candidate: Exhibit, champion: Exhibit | None) -> dict[str, list[Example]]:
    """Photos by section, with the answers of both side by side where both were scored.

    Args:
        album: where the test photos are.
        candidate: the version that was judged.
        champion: what it was compared with, on the photos that were compared.
    """
    ranked = by_f1(candidate.images)
    picked = {
        f"Worst {WORST} by F1": ranked[:WORST],
        "Largest false alarms": by_false_alarm(candidate.images)[:ALARMS],
        "Best": ranked[WORST:][::-1][:BEST],
    }
    title = f"version {candidate.version}"
    models, rows = {title: candidate.predict}, [(title, _rows(candidate))]
    both: list[str] = []
    if champion is not None:
        models[f"champion {champion.version}"] = champion.predict
        rows.append((f"champion {champion.version}", _rows(champion)))
        both = champion.images["image_id"].tolist()
        differing = _most_different(rows[0][1], rows[1][1])
        picked = {"Where the two differ most": differing[:DIFFERENT], **picked}
    names = [name for section in picked.values() for name in section]
    drawn = album.draw([n for n in names if n in both], models)
    drawn |= album.draw([n for n in names if n not in both], {title: candidate.predict})
    said = {
        name: "; ".join(f"{who}: {facts(of[name])}" for who, of in rows if name in of)
        for name in names
    }
    return {
        section: [Example(name, said[name], drawn[name]) for name in found]
        for section, found in picked.items()
        if found
    }


def _rows(exhibit: Exhibit) -> dict[str, dict[str, Any]]:
    rows: Any = exhibit.images.set_index("image_id", drop=False).to_dict("index")
    return rows


def _most_different(
    ours: Mapping[str, Mapping[str, Any]], theirs: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Photos by how far the two are apart in F1 or, where authentic, in false-alarm area."""
    apart: dict[str, float] = {}
    for name, row in theirs.items():
        measure = "false_alarm_area" if row["label"] == AUTHENTIC else "f1"
        difference = abs(ours[name][measure] - row[measure])
        if difference > 0:  # neither equal nor unknown
            apart[name] = difference
    return sorted(apart, key=lambda name: (-apart[name], name))
