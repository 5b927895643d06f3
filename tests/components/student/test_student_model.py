from __future__ import annotations

import pytest
import torch

from components.errors import InputError
from components.student.model import build, configure


@pytest.mark.parametrize(
    "backbone", ["tf_efficientnet_lite0", "mobilenetv3_large_100", "tiny_vit_5m_224"]
)
def test_logits_at_the_photos_size_within_the_budget(settings, backbone):
    student = build(configure(settings(backbone=backbone, channels=48, prototypes=32)), "none")
    assert sum(value.numel() for value in student.parameters()) <= 5_500_000
    with torch.no_grad():
        assert student.eval()(torch.rand(2, 3, 64, 96)).shape == (2, 1, 64, 96)


def test_photos_are_normalised_inside(make):
    student, photo = make(), torch.rand(1, 3, 64, 64)
    seen = []
    student.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        student(photo)
    torch.testing.assert_close(seen[0], (photo - 0.5) / 0.5)
    assert not {"mean", "std"} & set(student.state_dict())


def test_same_seed_same_student(make):
    first, second = make(), make()
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_unknown_backbone(settings):
    with pytest.raises(InputError, match=r"distill\.backbone"):
        configure(settings(backbone="resnet_of_dreams"))
