"""Scored photos as a table: what can drift, one row per photo.

A source is a table of scores (that of `iml score`, or any Parquet or CSV) or a folder with the
JSON that `iml predict` writes beside each mask, whose photos are looked up for their JPEG quality.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from components.data.jpeg import jpeg_quality
from components.errors import InputError
from components.files import read_json

COLUMNS = ("score", "area", "width", "height", "jpeg_quality")


def read(source: Path) -> pd.DataFrame:
    """The drift columns of a source, float64, absent values as NaN.

    Raises:
        InputError: nothing there, no table of scores, no scored photo in it.
    """
    frame = _records(source) if source.is_dir() else _table(source)
    if "score" not in frame or not pd.api.types.is_numeric_dtype(frame["score"]):
        raise InputError(
            "no numbers in a column `score`",
            where=str(source),
            mend="name a table of scores or a folder of `iml predict`",
        )
    if "jpeg_quality" not in frame and "photo" in frame:
        frame["jpeg_quality"] = [_quality(Path(str(photo))) for photo in frame["photo"]]
    numbers = {
        name: pd.to_numeric(frame[name], errors="coerce").astype("float64")
        for name in COLUMNS
        if name in frame
    }
    return pd.DataFrame(numbers)


def _table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except FileNotFoundError:
        raise InputError("no such file or folder", where=str(path)) from None
    except (ValueError, OSError) as error:
        raise InputError(f"not a Parquet or CSV table ({error})", where=str(path)) from None


def _records(folder: Path) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.rglob("[!.]*.json")):
        row = read_json(path)
        if isinstance(row, dict) and {"photo", "score"} <= set(row):
            rows.append(row)
    if not rows:
        raise InputError("no scored photo here", where=str(folder), mend="run `iml predict` first")
    return pd.DataFrame(rows)


def _quality(photo: Path) -> float:
    """JPEG quality of a photo that still is where it was; NaN for others and other files."""
    try:
        quality = jpeg_quality(photo.read_bytes())
    except OSError:
        return float("nan")
    return float("nan") if quality is None else quality
