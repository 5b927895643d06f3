"""The student network: photo in, one logit per pixel out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.core.errors import InputError, brief
from components.core.params import StudentParams
from components.student import backbones
from components.student.config import StudentConfig
from components.student.fusion import MemoryGuidedFusion

MAX_MEGABYTES = 25  # of an exported student
LIMIT = 3 / 255  # residuals beyond it are edges of the scene, not noise

_SQUARE_3 = [[0, 0, 0, 0, 0], [0, -1, 2, -1, 0], [0, 2, -4, 2, 0], [0, -1, 2, -1, 0], [0] * 5]
_SQUARE_5 = [
    [-1, 2, -2, 2, -1],
    [2, -6, 8, -6, 2],
    [-2, 8, -12, 8, -2],
    [2, -6, 8, -6, 2],
    [-1, 2, -2, 2, -1],
]
_SECOND = [[0] * 5, [0] * 5, [0, 1, -2, 1, 0], [0] * 5, [0] * 5]


class HighPass(nn.Module):
    """What is left of a photo after its smooth content is filtered away, added to its colours.

    Three fixed high-pass filters of the spatial rich model (Fridrich & Kodovsky 2012), as chosen by
    Zhou et al. 2018, on each colour channel. The mix that joins them to the photo starts at zero,
    so a pretrained backbone first sees the photo alone and learns how much of the noise it wants.
    """

    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        pairs = ((_SQUARE_3, 4), (_SQUARE_5, 12), (_SECOND, 2))
        bank = torch.stack([torch.tensor(kernel) / scale for kernel, scale in pairs])
        self.register_buffer("filters", bank.repeat(3, 1, 1)[:, None], persistent=False)
        self.mix = nn.Conv2d(9, 3, 1, bias=False)
        nn.init.zeros_(self.mix.weight)

    def residuals(self, photos: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, 9, H, W) in [-1, 1]: three filters for each channel."""
        noise = F.conv2d(photos, self.filters, padding=2, groups=3)
        return noise.clamp(-LIMIT, LIMIT) / LIMIT

    def forward(self, photos: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, 3, H, W)."""
        return self.mix(self.residuals(photos))


class Student(nn.Module):
    """Backbone, memory-guided gated fusion and a bilinear step back to the photo's size."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: StudentConfig) -> None:
        """Build with random weights; raises InputError for a backbone that does not fit."""
        super().__init__()
        self.config = config
        self.backbone = backbones.create(config.backbone)
        self.fusion = MemoryGuidedFusion(
            backbones.widths(self.backbone),
            config.channels,
            config.prototypes,
            config.alpha,
            gates=config.gates,
            dual_guidance=config.dual_guidance,
        )
        self.frontend = HighPass() if config.frontend == "highpass" else None
        # Constants of the config, so they are not part of the weights.
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)
        self.to(memory_format=torch.channels_last)

    def features(self, photos: Tensor) -> list[Tensor]:
        """The backbone's four scales of photos (B, 3, H, W), float32 in [0, 1], RGB."""
        normal = (photos - self.mean) / self.std
        if self.frontend is not None:
            normal = normal + self.frontend(photos)
        return self.backbone(normal.contiguous(memory_format=torch.channels_last))

    def forward(self, photos: Tensor) -> Tensor:
        """Logits (B, 1, H, W) of "manipulated" for photos (B, 3, H, W), float32 in [0, 1], RGB.

        They are divided by the config's temperature, so that their sigmoid is calibrated.
        """
        return self.answer(self.features(photos), photos.shape[-2:])

    def answer(self, features: list[Tensor], size: torch.Size) -> Tensor:
        """The logits (B, 1, *size) that belong to `features` of photos of this size."""
        coarse = self.fusion(features) / self.config.temperature
        return F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)


def configure(params: StudentParams) -> StudentConfig:
    """The config a set of parameters asks for; raises InputError for an unknown backbone."""
    mean, std = backbones.normalisation(params.backbone)
    return StudentConfig(**params.model_dump(exclude={"weights"}), mean=mean, std=std)


def build(config: StudentConfig, weights: str) -> Student:
    """A student to be trained: random fusion, backbone filled from `weights` (see `backbones`).

    A `.safetensors` file of a whole student fills the fusion too; what it has beyond this config
    (the memory of one without) is left. Random numbers come from torch's global generator: seed it
    first.

    Raises:
        InputError: weights that are not there, not reachable or do not fit; a backbone that cannot
            see photos of other sizes, or makes a student too large to be exported.
    """
    student = Student(config)
    _check(student)
    if weights.endswith(".safetensors"):
        state = backbones.read_file(weights)
        if any(name.startswith("fusion.") for name in state):
            backbones.fill(student, state, weights)
            return student
    backbones.load_weights(student.backbone, config.backbone, weights)
    return student


def _check(student: Student) -> None:
    """Refuse before a long training what export would refuse after it."""
    name, size = student.config.backbone, student.config.size
    megabytes = sum(value.numel() for value in student.parameters()) * 4 / 1e6
    if megabytes > MAX_MEGABYTES:
        raise InputError(
            f"{name} makes a student of {megabytes:.0f} MB, more than {MAX_MEGABYTES}",
            where=backbones.BACKBONE_KEY,
        )
    student.eval()
    for height, width in ((size, size), (64, 96)):
        try:
            with torch.no_grad():
                student(torch.zeros(1, 3, height, width))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise InputError(
                f"{name} cannot see photos of {width}x{height} pixels ({brief(error)})",
                where=backbones.BACKBONE_KEY,
            ) from None
    student.train()
