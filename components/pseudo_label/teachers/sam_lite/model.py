"""`sam_lite` as a teacher: one zoomed crop a box, soft masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load

from components.core.errors import InputError
from components.core.files import sha256_bytes
from components.core.seeds import fix_torch
from components.pseudo_label.candidates import Candidates, Prompt, Teacher
from components.pseudo_label.devices import device, has_bfloat16
from components.pseudo_label.teachers.sam_lite.crops import Crop, cut, spread
from components.pseudo_label.teachers.sam_lite.network import SamLite

SIZE = 160  # side of a crop, as at the end of training
# Boxes that go through together, in full batches, padded: float sums change with the batch size.
BATCHES = {"cpu": 4, "cuda": 64}

# Set on held-out composites (`research.sam_lite.tuning`), never on a labelled data set.
TEMPERATURE = 0.05  # of predicted IoU, in the weights of the six masks of a box
CALIBRATION = (-0.436, 0.933, 0.531)  # constant, slopes of predicted IoU and of agreement


@dataclass(frozen=True)
class Answer:
    """What the network says of one crop.

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


class SamLiteTeacher(Teacher):
    """Answers each box with one mask, a blend of six.

    A crop and its mirror image give three candidates each; they are averaged with weights that
    grow with their predicted IoU, which was better on held-out pairs than any one of them.
    `predicted_iou` is calibrated: masks of that value have that IoU in the mean. `stability` is
    NaN: the calibration has it in already.

    Args:
        network: trained.
        sha256: of its weights.
        threads: of torch, fixed, because they change float sums.
        batch: boxes that go through together; None for the device's own.
        half: bfloat16 products; None where the processor has them in hardware.
    """

    def __init__(
        self,
        network: SamLite,
        sha256: str,
        threads: int,
        batch: int | None = None,
        half: bool | None = None,
    ) -> None:
        fix_torch(0, threads)
        self._device = device()
        self.name, self.sha256, self.margin = "sam_lite", sha256, 0.0
        self.prior, self.calibrated, self.processes = np.nan, True, self._device == "cpu"
        self.batch = batch or BATCHES[self._device]
        self.half = has_bfloat16(self._device) if half is None else half
        self.settings = {
            "device": self._device,
            "threads": threads,
            "batch": self.batch,
            "precision": "bfloat16" if self.half else "float32",
        }
        network.set_size(SIZE)
        self._network = network.eval().to(self._device).to(memory_format=torch.channels_last)

    def stream(self, photo: np.ndarray, boxes: np.ndarray) -> Iterator[Candidates]:
        """Cut a crop for every box; `batch` of them go through the network together."""
        return next(self.answers([Prompt(photo, boxes)]))

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
        tensor = torch.from_numpy(both).to(self._device).permute(0, 3, 1, 2).float()
        prompts = torch.from_numpy(np.concatenate([boxes, mirrored])).to(self._device)
        with torch.autocast(self._device, torch.bfloat16, enabled=self.half):
            answers = self._network(tensor, prompts)
        raw, guess = (part.float().cpu().numpy() for part in answers)
        first, second = slice(len(crops)), slice(self.batch, self.batch + len(crops))
        logits = np.stack([raw[first], raw[second, ..., ::-1]])
        return logits, np.stack([guess[first], guess[second]])


def restore(answer: Answer, crop: Crop, shape: tuple[int, int]) -> np.ndarray:
    """The mask of one box, probability float32 of the photo's shape (H, W).

    Nothing outside the crop's window.
    """
    x0, y0, x1, y1 = crop.window
    mask = np.zeros(shape, np.float32)
    mask[y0:y1, x0:x1] = 1 / (1 + np.exp(-spread(answer.logits, crop)))
    return mask


def read_weights(path: Path) -> bytes:
    """The bytes of a file of weights; raises InputError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the weights ({error.strerror})", where=str(path)) from None


def network_of(data: bytes, where: str) -> SamLite:
    """The network with the tensors of a `sam_lite` file, as float32.

    Stored in half precision they lose nothing seen.

    Raises:
        InputError: not safetensors, or weights of another network.
    """
    try:
        state = {name: value.float() for name, value in load(data).items()}
    except SafetensorError as error:
        raise InputError(f"not a safetensors file ({error})", where=where) from None
    network = SamLite(SIZE)
    wanted = network.state_dict()
    strange = sorted(wanted.keys() ^ state.keys())
    strange += sorted(k for k in wanted.keys() & state.keys() if wanted[k].shape != state[k].shape)
    if strange:
        raise InputError(
            f"not weights of sam_lite: {len(strange)} tensors differ (first: {strange[0]})",
            where=where,
        )
    network.load_state_dict(state, strict=True)
    return network


def load_teacher(
    path: Path, threads: int, batch: int | None = None, half: bool | None = None
) -> SamLiteTeacher:
    """The teacher from a file of weights.

    Args:
        path: a `.safetensors` made by `iml teacher train`.
        threads: see `SamLiteTeacher`.
        batch: see `SamLiteTeacher`.
        half: see `SamLiteTeacher`.

    Raises:
        InputError: missing, damaged or foreign weights.
    """
    data = read_weights(path)
    return SamLiteTeacher(network_of(data, str(path)), sha256_bytes(data), threads, batch, half)
