"""Segment Anything (Kirillov et al., ICCV 2023, arXiv 2304.02643): the three published models.

Sizes and hashes are those of the files that Meta AI publishes under the Apache-2.0 licence.
"""

from __future__ import annotations

from components.core.params import PseudoLabel
from components.pseudo_label.candidates import Teacher
from components.pseudo_label.checkpoints import Checkpoint, Weights
from components.pseudo_label.registry import TeacherSpec

ENCODER = (f"{__name__}.model", "components.pseudo_label.networks", "components.core.seeds")
LIBRARIES = ("torch", "torchvision", "segment-anything")


def _spec(name: str, file: str, size: int, sha256: str) -> TeacherSpec:
    def build(params: PseudoLabel, checkpoint: Checkpoint | None) -> Teacher:
        from components.pseudo_label.teachers.sam.model import load

        if checkpoint is None:
            raise ValueError(f"{name} needs weights")
        return load(name, checkpoint, params.margin, params.threads)

    address = "https://dl.fbaipublicfiles.com/segment_anything"
    return TeacherSpec(
        name=name,
        kind="Segment Anything",
        build=build,
        modules=ENCODER,
        libraries=LIBRARIES,
        weights=Weights(file, size, sha256, address=address, mirror="IML_SAM_MIRROR"),
    )


SPECS = (
    _spec(
        "vit_b",
        "sam_vit_b_01ec64.pth",
        375_042_383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    _spec(
        "vit_l",
        "sam_vit_l_0b3195.pth",
        1_249_524_607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    _spec(
        "vit_h",
        "sam_vit_h_4b8939.pth",
        2_564_550_879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
)
