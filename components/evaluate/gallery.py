"""Photos for pages, drawn once more: with box, pseudo-mask, answers and truth side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.core.files import inside
from components.core.images import open_photo
from components.core.stream import batches
from components.data.manifest import Manifest
from components.evaluate import pictures
from components.evaluate.run import Loaded, Predict, load_all

_SIDE = 480  # pixels of a picture's longer side; pages show it small and open it at this size
Picture = tuple[str, str]  # what it shows, and the picture as a data URI


@dataclass(frozen=True)
class Example:
    """A photo of a page: its name, its numbers in words, its pictures, its SHA-256."""

    name: str
    facts: str
    pictures: list[Picture]
    sha256: str = ""


@dataclass(frozen=True)
class Album:
    """Photos with their boxes, and where what belongs to them is."""

    photos: Manifest
    root: Path  # the folder that their paths are below
    pseudo_masks: Path | None = None  # folder of the teacher's masks, `IMAGE_ID.png`

    def draw(self, names: Iterable[str], models: Mapping[str, Predict]) -> dict[str, list[Picture]]:
        """Pictures by photo: photo and boxes, pseudo-mask if any, each model's answer, truth.

        `names` are image ids, `models` are called as the words below their answers.
        """
        wanted = list(dict.fromkeys(names))
        chosen = self.photos.images.set_index("image_id", drop=False).loc[wanted]
        drawn: dict[str, list[Picture]] = {}
        for batch in batches(load_all(chosen, self.root), lambda item: item.photo.size // 3):
            maps = {what: predict([i.photo for i in batch]) for what, predict in models.items()}
            for place, item in enumerate(batch):
                answers = {what: found[place] for what, found in maps.items()}
                drawn[item.row["image_id"]] = self._pictures(item, answers)
        return drawn

    def _pictures(self, item: Loaded, answers: Mapping[str, np.ndarray]) -> list[Picture]:
        photo, name = item.photo, item.row["image_id"]
        boxes = self.photos.boxes
        own = boxes.loc[boxes["image_id"] == name, ["x0", "y0", "x1", "y1"]].to_numpy(float)
        nothing = np.zeros(photo.shape[:2], dtype=np.float32)
        found = {
            "photo and box" if len(own) else "photo": pictures.overlay(photo, nothing, boxes=own)
        }
        if self.pseudo_masks is not None:
            mask = inside(self.pseudo_masks, f"{name}.png")
            if mask.is_file():
                found["pseudo-mask"] = open_photo(mask, photo.size / 1e6)[..., 0]
        found |= {what: pictures.overlay(photo, answer) for what, answer in answers.items()}
        if item.mask is not None and item.mask.any():
            found["true mask"] = np.uint8(255) * item.mask
        return [
            (what, pictures.data_uri(pictures.thumbnail(picture, _SIDE)))
            for what, picture in found.items()
        ]
