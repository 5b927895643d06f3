"""A photo's report: one self-contained page for a case file, to be read and printed.

    html = case_report("street.jpg", data, scored, predictor, Model.of(student), origin, {})

Whoever reads it may have to answer for it: each statement says what is known and how, a figure says
what it was measured on, and a part that cannot be read says so without spoiling the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags
from pydantic import ValidationError

from components.core import pages
from components.core.errors import brief
from components.core.files import canonical_json, read_json
from components.core.metrics import SCORE_SHARE, THRESHOLD
from components.evaluate.pictures import data_uri, marked, thumbnail
from components.serving import credentials, jpeg_file, metadata, stability
from components.serving.inference import Limits, Scored
from components.serving.origin import Origin, Student
from components.serving.predictor import Predictor
from components.serving.rates import Rate, rate
from components.student.config import CONFIG, Scores, ValidationScores

PICTURE, THUMBNAIL = 1200, 240  # pixels of a picture's longer side on the page
_QUALITY = 88
_PACKAGES = ("onnxruntime", "numpy", "pillow", "pillow-heif")


@dataclass(frozen=True)
class Model:
    """What a report says of its model; None where its file has nothing of it."""

    name: str
    threshold: float | None  # image scores above it call a photo manipulated
    temperature: float | None
    size: int | None  # side in pixels of the square that the network sees
    tiles: bool | None  # whether it sees a photo in such squares, or shrunk to one
    validation: ValidationScores | None

    @classmethod
    def of(cls, student: Student) -> Model:
        """Read it from a student's folder, which code of another time may have written."""
        values = read_json(student.folder / CONFIG)
        size, view = _number(values.get("size")), values.get("view")
        return cls(
            student.name,
            _number(values.get("image_threshold")),
            _number(values.get("temperature")),
            None if size is None else int(size),
            None if view is None else view == "tiles",
            _validation(values.get("validation_scores")),
        )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _validation(value: object) -> ValidationScores | None:
    try:
        return ValidationScores.model_validate_json(canonical_json(value))
    except (ValidationError, ValueError):  # none, or of a schema to come
        return None


class Section(NamedTuple):
    """A part of the page: what was found, or why it could not be."""

    found: Any
    error: str | None = None


def _section(work: Callable[[], Any]) -> Section:
    try:
        return Section(work())
    except Exception as error:  # files are hostile, and the rest of the page is wanted
        return Section(None, metadata.text(brief(error) or type(error).__name__))


def case_report(
    name: str,
    data: bytes,
    one: Scored[Any],
    predictor: Predictor,
    model: Model,
    origin: Origin,
    about: Mapping[str, str],
) -> str:
    """The page on one photo.

    Args:
        name: of the photo's file, for people.
        data: the file.
        one: what `components.serving.inference.scored` found in it: photo and answer.
        predictor: that gave the answer; it is asked again for the photo's variants.
        model: what is known of it.
        origin: of the answer.
        about: further facts on the model and the examination, by what they are.
    """
    photo, found = one.photo, one.found
    if photo is None or found is None:
        raise ValueError("a photo without an answer has no report")
    score = round(found.score, 6)
    above = None if model.threshold is None else score > model.threshold
    image = metadata.opened(data)
    jpeg = _section(lambda: jpeg_file.structure(data))
    comments = jpeg.found.comments if jpeg.found else []
    values = {
        "name": metadata.text(name, 300),
        "one": one,
        "score": score,
        "area": found.area,
        "above": above,
        "model": model,
        "origin": origin,
        "about": about,
        "digits": _digits(score, model.threshold),
        "width": photo.shape[1],
        "height": photo.shape[0],
        "pictures": _pictures(photo, found.probability),
        "shrunk": max(photo.shape[:2]) > PICTURE,
        "picture_side": PICTURE,
        "rates": _rates(score, model),
        "strips": _strips(model.validation),
        "variants": _section(lambda: stability.variants(photo, found, predictor, model.threshold)),
        "size": len(data),
        "file": _section(lambda: _file(image)),
        "jpeg": jpeg,
        "quality": one.quality,
        "standard": _section(lambda: _standard(jpeg.found)),
        "exif": _section(lambda: metadata.exif(image)),
        "profile": _section(lambda: metadata.profile(image)),
        "programs": _section(lambda: metadata.programs(image, comments)),
        "credentials": _section(lambda: credentials.read(data)),
        "credentials_library": credentials.library(),
        "credentials_extra": credentials.EXTRA,
        "libraries": list(_libraries()),
        "limits": Limits(),
        "pixel_threshold": THRESHOLD,
        "score_share": SCORE_SHARE,
        "seen": _seen(model, photo),
    }
    return pages.render("case.html", values, _FILTERS)


def _digits(score: float, threshold: float | None) -> int:
    """Digits that show which of the two is larger."""
    return 6 if threshold is not None and abs(score - threshold) < 1e-3 else 4


def _percent(share: float) -> str:
    if 0 < share < 0.0005:
        return "less than 0.1 %"
    if 0.9995 <= share < 1:
        return "more than 99.9 %"
    return f"{share:.0%}".replace("%", " %") if share in (0, 1) else f"{100 * share:.1f} %"


def _bytes(size: int) -> str:
    return f"{size:,} bytes"


def _embedded(photo: np.ndarray) -> str:
    return data_uri(thumbnail(photo, THUMBNAIL), _QUALITY)


_FILTERS: dict[str, Callable[..., str]] = {
    "percent": _percent,
    "embed": _embedded,
    "bytes": _bytes,
    "clean": metadata.text,
}


def _pictures(photo: np.ndarray, probability: np.ndarray) -> tuple[str, str]:
    """The photo and its overlay as data URIs."""
    drawn = marked(photo, probability, PICTURE)
    return data_uri(thumbnail(photo, PICTURE), _QUALITY), data_uri(drawn, _QUALITY)


class Rates(NamedTuple):
    """How often validation photos score so high, or beyond the threshold."""

    authentic: Rate  # with at least this score
    manipulated: Rate | None
    alarms: Rate | None  # authentic ones above the threshold
    missed: Rate | None  # manipulated ones not above it
    exact: bool  # whether all scores were kept


def _rates(score: float, model: Model) -> Rates | None:
    """None where the model has no scores of authentic photos."""
    known = model.validation
    if known is None or not known.authentic.n:
        return None
    authentic, manipulated = known.authentic, known.manipulated
    alarms = missed = None
    if model.threshold is not None:
        beyond = math.nextafter(model.threshold, 2)
        alarms = rate(authentic.at_least(beyond), authentic.n)
        if manipulated.n:
            missed = rate(manipulated.n - manipulated.at_least(beyond), manipulated.n)
    return Rates(
        rate(authentic.at_least(score), authentic.n),
        rate(manipulated.at_least(score), manipulated.n) if manipulated.n else None,
        alarms,
        missed,
        all(len(scores.kept) == scores.n for scores in (authentic, manipulated)),
    )


def _strips(known: ValidationScores | None) -> list[tuple[str, int, str]]:
    """Each class with its photos and the path of their ticks on a line from 0 to 600."""
    if known is None:
        return []

    def ticks(scores: Scores) -> str:
        return "".join(f"M{600 * score:.1f} 0v16" for score in scores.kept)

    classes = (("authentic", known.authentic), ("manipulated", known.manipulated))
    return [(name, scores.n, ticks(scores)) for name, scores in classes if scores.n]


def _file(image: Any) -> dict[str, Any]:
    """What the header says."""
    return {
        "format": image.format,
        "mode": image.mode,
        "frames": int(getattr(image, "n_frames", 1)),
        "orientation": image.getexif().get(ExifTags.Base.Orientation, 1),
    }


def _standard(structure: jpeg_file.Structure | None) -> int | None:
    table = structure.tables.get(0) if structure else None
    return None if table is None else jpeg_file.standard_quality(table)


def _libraries() -> Iterable[str]:
    """What decoded, computed and checked, with versions."""
    for name in (*_PACKAGES, credentials.PACKAGE):
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            continue


def _seen(model: Model, photo: np.ndarray) -> tuple[float, float] | None:
    """Pixels of the photo, across and down, behind one that the network sees, where it shrinks."""
    height, width = photo.shape[:2]
    if model.size is None or model.tiles is not False or max(height, width) <= model.size:
        return None
    return width / model.size, height / model.size
