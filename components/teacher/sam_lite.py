"""`sam_lite`, the project's own small SAM as a teacher: one zoomed crop a box, soft masks.

Weights and card lie in `assets/`; how they were made is `components.teacher.learning`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from components.errors import InputError
from components.files import sha256_bytes
from components.seeds import fix_torch
from components.teacher.candidates import Candidates, Teacher
from components.teacher.crops import Crop, cut, spread
from components.teacher.prompts import fill
from components.teacher.sam_lite_network import SamLite

WEIGHTS = Path(__file__).parent / "assets" / "sam_lite.safetensors"
SHA256 = "86eaa5511830209de30a6e8680ab6cc363b204e1395aa60db0a56a63d2971e28"
SIZE = 160  # side of a crop, as at the end of training
BATCH = 8  # boxes go through in full batches, padded: float sums change with the batch size

# Set on held-out composites (`components.teacher.learning.tuning`), never on a labelled data set.
TEMPERATURE = 0.05  # of predicted IoU, in the weights of the six masks of a box
CALIBRATION = (-0.393, 0.806, 0.609)  # constant, slopes of predicted IoU and of agreement
UNSURE = 0.4  # confidence below which the filled box is the better mask


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
    NaN: the calibration has it in already. Where even that is less than a filled box is worth,
    the box is what comes back.
    """

    def __init__(self, network: SamLite, sha256: str, threads: int) -> None:
        fix_torch(0, threads)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.name, self.sha256, self.margin = "sam_lite", sha256, 0.0
        self.prior, self.processes = np.nan, True
        self.settings = {
            "algorithm": "sam-lite/1",
            "rules": str((SIZE, TEMPERATURE, CALIBRATION, UNSURE)),
            "torch": torch.__version__,
            "device": device,
            "threads": threads,
        }
        network.set_size(SIZE)
        self._network = network.eval().to(device).to(memory_format=torch.channels_last)
        self._device = device

    def stream(self, photo: np.ndarray, boxes: np.ndarray) -> Iterator[Candidates]:
        """Cut a crop for every box, eight go through the network together."""
        for start in range(0, len(boxes), BATCH):
            some = boxes[start : start + BATCH]
            crops = [cut(photo, box, SIZE) for box in some]
            for box, crop, answer in zip(some, crops, self.answers(crops), strict=True):
                mask = restore(answer, crop, box, photo.shape[:2])
                predicted = np.array([[answer.confidence]], np.float32)
                yield Candidates(mask[None, None], predicted, np.full((1, 1), np.nan, np.float32))

    def answers(self, crops: list[Crop]) -> list[Answer]:
        """The answers to at most BATCH crops."""
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
        pixels = np.zeros((BATCH, SIZE, SIZE, 3), np.uint8)
        boxes = np.tile(np.array([0, 0, SIZE, SIZE], np.float32), (BATCH, 1))
        for place, crop in enumerate(crops):
            pixels[place], boxes[place] = crop.pixels, crop.box
        mirrored = boxes.copy()
        mirrored[:, [0, 2]] = SIZE - boxes[:, [2, 0]]
        both = np.concatenate([pixels, pixels[:, :, ::-1]])
        tensor = torch.from_numpy(both).to(self._device).permute(0, 3, 1, 2).float()
        prompts = torch.from_numpy(np.concatenate([boxes, mirrored])).to(self._device)
        raw, guess = (part.cpu().numpy() for part in self._network(tensor, prompts))
        logits = np.stack([raw[: len(crops)], raw[BATCH : BATCH + len(crops), ..., ::-1]])
        return logits, np.stack([guess[: len(crops)], guess[BATCH : BATCH + len(crops)]])


def restore(answer: Answer, crop: Crop, box: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The mask of one box, probability float32 of the photo's shape (H, W).

    Nothing outside the crop's window; the filled box where the network is unsure.
    """
    if answer.confidence < UNSURE:
        return fill(box, shape[1], shape[0]).astype(np.float32)
    x0, y0, x1, y1 = crop.window
    mask = np.zeros(shape, np.float32)
    mask[y0:y1, x0:x1] = 1 / (1 + np.exp(-spread(answer.logits, crop)))
    return mask


def read_weights(data: bytes, where: str) -> dict[str, Tensor]:
    """Tensors of a `sam_lite` file, as float32; stored in half precision they lose nothing seen.

    Raises:
        InputError: not safetensors, or weights of another network.
    """
    try:
        state = {name: value.float() for name, value in load(data).items()}
    except SafetensorError as error:
        raise InputError(f"not a safetensors file ({error})", where=where) from None
    with torch.device("meta"):
        wanted = SamLite(SIZE).state_dict()
    strange = sorted(wanted.keys() ^ state.keys())
    strange += sorted(k for k in wanted.keys() & state.keys() if wanted[k].shape != state[k].shape)
    if strange:
        raise InputError(
            f"not weights of sam_lite: {len(strange)} tensors differ (first: {strange[0]})",
            where=where,
        )
    return state


def load_teacher(path: Path | None, threads: int) -> SamLiteTeacher:
    """The teacher from the weights that come with the project, or from a file of one's own.

    Args:
        path: a `.safetensors` made by `iml teacher train`; None for the project's own.
        threads: of torch, fixed, because they change float sums.

    Raises:
        InputError: missing, damaged or foreign weights.
    """
    source = path or WEIGHTS
    try:
        data = source.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the weights ({error.strerror})", where=str(source)) from None
    sha256 = sha256_bytes(data)
    if path is None and sha256 != SHA256:
        raise InputError(
            f"SHA-256 is {sha256}, expected {SHA256}",
            where=str(source),
            mend="install the project again",
        )
    network = SamLite(SIZE)
    network.load_state_dict(read_weights(data, str(source)), strict=True)
    return SamLiteTeacher(network, sha256, threads)
