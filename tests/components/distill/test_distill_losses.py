from __future__ import annotations

import math

import pytest
import torch

from components.core.params import Loss
from components.distill.losses import dice, distillation, edges

PLAIN = Loss(confidence=False, dice=0.0, boundary=0.0)
ONE = torch.ones(1)


def test_loss_is_least_at_the_teachers_probability():
    target = torch.full((1, 1, 4, 4), 0.7)

    def at(p, settings):
        return distillation(torch.full((1, 1, 4, 4), p).logit(), target, ONE, settings).item()

    for settings in (PLAIN, PLAIN.model_copy(update={"dice": 1.0, "boundary": 2.0})):
        assert at(0.7, settings) < min(at(0.6, settings), at(0.8, settings))
    expected = -(0.7 * math.log(0.7) + 0.3 * math.log(0.3))
    assert at(0.7, PLAIN) == pytest.approx(expected, abs=1e-6)


def test_weight_scales_a_photo_and_no_other():
    logits, target = torch.randn(3, 1, 8, 8), torch.rand(3, 1, 8, 8)
    settings = PLAIN.model_copy(update={"dice": 1.0})
    plain = distillation(logits, target, torch.ones(3), settings)
    weighed = distillation(logits, target, torch.tensor([1.0, 0.25, 0.0]), settings)
    torch.testing.assert_close(weighed, plain * torch.tensor([1.0, 0.25, 0.0]))


def test_dice_by_hand_and_nothing_on_an_authentic_photo():
    target = torch.zeros(2, 1, 2, 2)
    target[0, 0, 0] = 1.0
    probability = torch.full((2, 1, 2, 2), 0.5)
    torch.testing.assert_close(dice(probability, target), torch.tensor([1 - 2 / 3, 0.0]))
    assert dice(target, target)[0] == 0


def test_dice_pushes_few_pixels_as_hard_as_many():
    def pull(side):
        target = torch.zeros(1, 1, 64, 64)
        target[..., :side, :side] = 1
        logits = torch.full_like(target, -2.0).requires_grad_()
        dice(logits.sigmoid(), target).sum().backward()
        return -logits.grad[target > 0].sum().item()

    assert pull(8) > 0.5 * pull(32) > 0


def test_edges_are_a_band_on_both_sides_of_the_outline():
    target = torch.zeros(1, 1, 64, 64)
    target[..., 16:48, 16:48] = 0.9
    band = edges(target)[0, 0]
    assert band[32].nonzero().flatten().tolist() == [14, 15, 16, 17, 46, 47, 48, 49]
    assert not edges(torch.zeros(1, 1, 64, 64)).any()
    settings = PLAIN.model_copy(update={"boundary": 3.0})
    logits = torch.zeros(1, 1, 64, 64)
    more = distillation(logits, target, ONE, settings) / distillation(logits, target, ONE, PLAIN)
    assert more.item() == pytest.approx(1 + 3 * band.mean().item(), rel=1e-5)
