"""`sam_lite` as a teacher: one zoomed square crop a box, soft masks at the photo's resolution."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load

from components.core.errors import InputError
from components.pseudo_label.candidates import Candidates, Prompt
from components.pseudo_label.checkpoints import Checkpoint
from components.pseudo_label.networks import NetworkTeacher, load_tensors
from components.pseudo_label.teachers.sam_lite.network import SamLite

SIZE = 160  # side of a crop, as at the end of training
# Boxes that go through together, in full batches, padded: float sums change with the batch size.
BATCHES = {"cpu": 4, "cuda": 64}
CONTEXT = 1.4  # side of the crop as a multiple of the box's longer side; best on held-out pairs
_LEAST = 24  # pixels of the photo that a crop spans at least
_GREY = 127  # where the photo ends; near zero once normalised

# Set on held-out composites (`research.sam_lite.tuning`), never on a labelled data set.
TEMPERATURE = 0.05  # of predicted IoU, in the weights of the six masks of a box
CALIBRATION = (-0.436, 0.933, 0.531)  # constant, slopes of predicted IoU and of agreement


@dataclass(frozen=True)
class Crop:
    """One crop of a photo.

    Attributes:
        pixels: uint8 (S, S, 3); the photo fills the upper left `inner`, the rest is grey.
        box: float32 (4,), the prompt in the crop's pixels.
        window: x0, y0, x1, y1, the part of the photo that is seen.
        inner: height and width that the window takes in the crop.
    """

    pixels: np.ndarray
    box: np.ndarray
    window: tuple[int, int, int, int]
    inner: tuple[int, int]


@dataclass(frozen=True)
class Answer:
    """The network's answer to one crop.

    Attributes:
        logits: float32 (S/2, S/2).
        predicted: the network's own guess of its IoU.
        agreement: IoU of the masks of the crop and of its mirror image.
    """

    logits: np.ndarray
    predicted: float
    agreement: float

    @property
    def confidence(self) -> float:
        """Expected IoU with the true mask."""
        constant, slope, unity = CALIBRATION
        return float(np.clip(constant + slope * self.predicted + unity * self.agreement, 0, 1))


class SamLiteTeacher(NetworkTeacher):
    """Answers each box with one mask, a blend of six.

    A crop and its mirror image give three candidates each; they are averaged with weights that
    grow with their predicted IoU, which was better on held-out pairs than any one of them.
    `predicted_iou` is calibrated: masks of that value have that IoU in the mean. `stability` is
    NaN: the calibration has it in already. Arguments are `NetworkTeacher`'s, the trained network,
    and how many boxes go through it together; None for the device's own number.
    """

    calibrated = True

    def __init__(
        self,
        network: SamLite,
        sha256: str,
        threads: int,
        batch: int | None = None,
        half: bool | None = None,
    ) -> None:
        super().__init__("sam_lite", sha256, 0.0, threads, half)
        self.processes = self.device == "cpu"
        self.batch = batch or BATCHES[self.device]
        self.settings["batch"] = self.batch
        network.set_size(SIZE)
        self._network = network.eval().to(self.device).to(memory_format=torch.channels_last)

    def answers(self, prompts: Sequence[Prompt]) -> Iterator[Iterator[Candidates]]:
        """The boxes of all photos fill the batches together."""
        asked = ((prompt.photo, box) for prompt in prompts for box in prompt.boxes)
        found = self._found(asked)
        return (self._restored(prompt, found) for prompt in prompts)

    def _found(
        self, asked: Iterable[tuple[np.ndarray, np.ndarray]]
    ) -> Iterator[tuple[Crop, Answer]]:
        """Crops with their answers, one batch of them in memory."""
        asked = iter(asked)
        while crops := [cut(photo, box, SIZE) for photo, box in islice(asked, self.batch)]:
            yield from zip(crops, self.ask(crops), strict=True)

    def _restored(
        self, prompt: Prompt, found: Iterator[tuple[Crop, Answer]]
    ) -> Iterator[Candidates]:
        """The next answers, as many as a photo has boxes, at its own resolution."""
        for crop, answer in islice(found, len(prompt.boxes)):
            mask = restore(answer, crop, prompt.photo.shape[:2])
            predicted = np.array([[answer.confidence]], np.float32)
            yield Candidates(mask[None, None], predicted, np.full((1, 1), np.nan, np.float32))

    def ask(self, crops: list[Crop]) -> list[Answer]:
        """The answers to at most `batch` crops."""
        logits, predicted = self._views(crops)
        odds = np.exp((predicted - predicted.max(axis=(0, 2), keepdims=True)) / TEMPERATURE)
        found = []
        for n in range(len(crops)):
            probability = 1 / (1 + np.exp(-logits[:, n]))
            views = [np.average(probability[v], axis=0, weights=odds[v, n]) for v in (0, 1)]
            one, other = views[0] > 0.5, views[1] > 0.5
            agreement = (one & other).sum() / max(1, (one | other).sum())
            shares = odds[:, n].sum(axis=1)
            blend = np.clip(np.average(views, axis=0, weights=shares), 1e-5, 1 - 1e-5)
            guess = float(np.average(predicted[:, n], weights=odds[:, n]))
            found.append(
                Answer(np.log(blend / (1 - blend)).astype(np.float32), guess, float(agreement))
            )
        return found

    @torch.inference_mode()
    def _views(self, crops: list[Crop]) -> tuple[np.ndarray, np.ndarray]:
        """Logits float32 (2, n, 3, S/2, S/2) and predicted IoU (2, n, 3), mirror images second.

        The masks of the mirror images are mirrored back.
        """
        pixels = np.zeros((self.batch, SIZE, SIZE, 3), np.uint8)
        boxes = np.tile(np.array([0, 0, SIZE, SIZE], np.float32), (self.batch, 1))
        for place, crop in enumerate(crops):
            pixels[place], boxes[place] = crop.pixels, crop.box
        mirrored = boxes.copy()
        mirrored[:, [0, 2]] = SIZE - boxes[:, [2, 0]]
        both = np.concatenate([pixels, pixels[:, :, ::-1]])
        tensor = torch.from_numpy(both).to(self.device).permute(0, 3, 1, 2).float()
        prompts = torch.from_numpy(np.concatenate([boxes, mirrored])).to(self.device)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
            answers = self._network(tensor, prompts)
        raw, guess = (part.float().cpu().numpy() for part in answers)
        first, second = slice(len(crops)), slice(self.batch, self.batch + len(crops))
        logits = np.stack([raw[first], raw[second, ..., ::-1]])
        return logits, np.stack([guess[first], guess[second]])


def cut(photo: np.ndarray, box: np.ndarray, size: int, context: float = CONTEXT) -> Crop:
    """A square of a photo uint8 (H, W, 3) round a box inside it, resized to size x size.

    Its side is `context` times the box's longer one. It is moved to lie inside the photo where it
    can; where the photo is smaller, the rest stays grey.
    """
    height, width = photo.shape[:2]
    x0, y0, x1, y1 = (float(value) for value in box)
    side = max(_LEAST, round(context * max(x1 - x0, y1 - y0)))
    left, right = _span((x0 + x1) / 2, side, width)
    top, bottom = _span((y0 + y1) / 2, side, height)
    scale = size / side
    inner = (max(1, round((bottom - top) * scale)), max(1, round((right - left) * scale)))
    pixels = np.full((size, size, 3), _GREY, np.uint8)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    part = np.ascontiguousarray(photo[top:bottom, left:right])
    pixels[: inner[0], : inner[1]] = cv2.resize(part, inner[::-1], interpolation=how)
    across, down = inner[1] / (right - left), inner[0] / (bottom - top)
    moved = [(x0 - left) * across, (y0 - top) * down, (x1 - left) * across, (y1 - top) * down]
    return Crop(pixels, np.array(moved, np.float32), (left, top, right, bottom), inner)


def _span(centre: float, side: int, length: int) -> tuple[int, int]:
    """Start and end of `side` pixels about a centre, moved into 0..length."""
    start = max(0, min(round(centre - side / 2), length - side))
    return start, min(length, start + side)


def spread(values: np.ndarray, crop: Crop) -> np.ndarray:
    """Bring a map float32 (h, w) over a whole crop to the resolution of the photo's window."""
    size = crop.pixels.shape[0]
    if values.shape != (size, size):
        values = cv2.resize(values, (size, size), interpolation=cv2.INTER_LINEAR)
    x0, y0, x1, y1 = crop.window
    seen = np.ascontiguousarray(values[: crop.inner[0], : crop.inner[1]])
    return cv2.resize(seen, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)


def restore(answer: Answer, crop: Crop, shape: tuple[int, int]) -> np.ndarray:
    """The mask of one box, probability float32 of the photo's shape (H, W).

    Nothing outside the crop's window.
    """
    x0, y0, x1, y1 = crop.window
    mask = np.zeros(shape, np.float32)
    mask[y0:y1, x0:x1] = 1 / (1 + np.exp(-spread(answer.logits, crop)))
    return mask


def read_network(checkpoint: Checkpoint) -> tuple[SamLite, str]:
    """The network in a `.safetensors` made by `iml teacher train`, as float32, and its SHA-256.

    Stored in half precision its weights lose nothing seen. Raises InputError for missing, damaged
    or foreign ones.
    """
    where = str(checkpoint.path)
    with checkpoint.open() as (file, sha256):
        try:
            state = {name: value.float() for name, value in load(file.read()).items()}
        except SafetensorError as error:
            raise InputError(f"not a safetensors file ({error})", where=where) from None
    network = SamLite(SIZE)
    load_tensors(network, state, "sam_lite", where)
    return network, sha256


def load_teacher(
    checkpoint: Checkpoint, threads: int, batch: int | None = None, half: bool | None = None
) -> SamLiteTeacher:
    """The teacher from a file of weights; see `SamLiteTeacher` and `read_network`."""
    return SamLiteTeacher(*read_network(checkpoint), threads, batch, half)
