"""Segment Anything (Kirillov et al., ICCV 2023, arXiv 2304.02643) and MobileSAM (arXiv 2306.14289).

Sizes and hashes are those of the files that Meta AI and MobileSAM's authors publish, both under the
Apache-2.0 licence. MobileSAM is segment-anything's decoder behind a smaller encoder.
"""

from __future__ import annotations

from components.core.params import PseudoLabel
from components.pseudo_label.candidates import Teacher
from components.pseudo_label.checkpoints import Checkpoint, Weights
from components.pseudo_label.registry import TeacherSpec

# Modules and libraries that make their masks.
SAM = (
    (
        f"{__name__}.model",
        *(f"components.pseudo_label.{part}" for part in ("encoding", "networks")),
        "components.core.seeds",
    ),
    ("torch", "torchvision", "segment-anything"),
)
MOBILE = ((f"{__name__}.mobile", *SAM[0]), (*SAM[1], "timm"))


def _spec(name: str, file: str, size: int, sha256: str) -> TeacherSpec:
    def build(params: PseudoLabel, checkpoint: Checkpoint | None) -> Teacher:
        from components.pseudo_label.teachers.sam.model import load

        if checkpoint is None:
            raise ValueError(f"{name} needs weights")
        return load(name, checkpoint, params.margin, params.threads, made_by=SAM)

    address = "https://dl.fbaipublicfiles.com/segment_anything"
    return TeacherSpec(
        name=name,
        kind="Segment Anything",
        build=build,
        modules=SAM[0],
        libraries=SAM[1],
        weights=Weights(file, size, sha256, address=address, mirror="IML_SAM_MIRROR"),
    )


def _mobile(params: PseudoLabel, checkpoint: Checkpoint | None) -> Teacher:
    from components.pseudo_label.teachers.sam import mobile, model

    if checkpoint is None:
        raise ValueError("mobile_sam needs weights")
    return model.load(
        "mobile_sam",
        checkpoint,
        params.margin,
        params.threads,
        mobile.build,
        renamed=mobile.renamed,
        made_by=MOBILE,
    )


SPECS = (
    TeacherSpec(
        name="mobile_sam",
        kind="MobileSAM",
        build=_mobile,
        modules=MOBILE[0],
        libraries=MOBILE[1],
        weights=Weights(
            "mobile_sam.pt",
            40_728_226,
            "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
            address="https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/"
            "f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights",
            mirror="IML_SAM_MIRROR",
        ),
    ),
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
