from __future__ import annotations

import torch

from components.training.losses import pseudo_f1, soft_bce


def test_loss_is_least_at_the_teachers_probability():
    target = torch.full((1, 1, 4, 4), 0.7)
    at = {p: soft_bce(torch.full((1, 1, 4, 4), p).logit(), target).item() for p in (0.6, 0.7, 0.8)}
    assert at[0.7] < min(at[0.6], at[0.8])
    expected = -(0.7 * torch.tensor(0.7).log() + 0.3 * torch.tensor(0.3).log())
    torch.testing.assert_close(at[0.7], expected.item())


def test_f1_by_hand():
    target = torch.zeros(3, 1, 2, 2)
    target[0, 0, 0] = 1.0  # two pixels
    target[1, 0, 0, 0] = 0.9
    logits = torch.full((3, 1, 2, 2), -1.0)
    logits[0, 0, :, 0] = 1.0  # one of the two, and one that is not
    logits[2] = 1.0
    found = pseudo_f1(logits, target)
    torch.testing.assert_close(found[:2], torch.tensor([0.5, 0.0], dtype=torch.float64))
    assert found[2].isnan()
