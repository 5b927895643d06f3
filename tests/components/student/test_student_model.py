from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from components.core.errors import InputError
from components.student.model import build, configure


@pytest.mark.parametrize(
    "backbone", ["tf_efficientnet_lite0", "mobilenetv3_large_100", "tiny_vit_5m_224"]
)
@pytest.mark.parametrize("frontend", ["none", "highpass"])
def test_logits_at_the_photos_size_within_the_budget(settings, backbone, frontend):
    changes = {"backbone": backbone, "frontend": frontend, "channels": 48, "prototypes": 32}
    student = build(configure(settings(**changes).student), "none").eval()
    assert sum(value.numel() for value in student.parameters()) <= 5_500_000
    with torch.no_grad():
        for shape in ((64, 96), (72, 56)):
            assert student(torch.rand(2, 3, *shape)).shape == (2, 1, *shape)
        with FlopCounterMode(display=False) as counter:
            student(torch.rand(1, 3, 224, 224))
    assert 0.2e9 < counter.get_total_flops() / 2 <= 1.4e9


def test_high_pass_sees_noise_not_shade_and_starts_at_nothing(settings):
    student = build(configure(settings(frontend="highpass").student), "none").eval()
    slope = torch.linspace(0, 1, 32).expand(1, 3, 32, 32)
    noisy = slope + 0.02 * torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    smooth, rough = (student.frontend.residuals(photo)[..., 3:-3, 3:-3] for photo in (slope, noisy))
    assert smooth.shape[1] == 9
    assert smooth.abs().max() < 1e-3
    assert rough.abs().mean() > 0.1
    plain = build(configure(settings().student), "none").eval()
    plain.load_state_dict(
        {k: v for k, v in student.state_dict().items() if not k.startswith("frontend.")}
    )
    photo = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(student(photo), plain(photo))
    student.train()(photo.repeat(2, 1, 1, 1)).square().mean().backward()
    assert student.frontend.mix.weight.grad.abs().sum() > 0


def test_temperature_divides_the_logits(make):
    student, photo = make(), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = student(photo)
        student.config = student.config.model_copy(update={"temperature": 2.5})
        torch.testing.assert_close(student(photo), before / 2.5)


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
    with pytest.raises(InputError, match=r"distill\.student\.backbone"):
        configure(settings(backbone="resnet_of_dreams").student)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("resnet18", "makes a student of 4[0-9] MB, more than 25"),
        ("coat_lite_tiny", "cannot see photos of "),
    ],
)
def test_a_backbone_that_could_not_be_exported_is_refused_before_training(
    settings, name, complaint
):
    with pytest.raises(InputError, match=complaint):
        build(configure(settings(backbone=name).student), "none")
