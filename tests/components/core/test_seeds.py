"""Seeds: one stream a purpose, the same everywhere."""

from __future__ import annotations

import numpy as np
import torch

from components.core import seeds


def test_a_derived_seed_is_stable_across_machines() -> None:
    assert seeds.derive(7, "boxes", "a.jpg") == 4161508890625672148
    assert 0 <= seeds.derive(7, "boxes") < 2**63


def test_purposes_do_not_share_a_stream() -> None:
    names = [seeds.derive(7, "a", "b"), seeds.derive(7, "ab"), seeds.derive(7, "b", "a")]
    assert len({*names, seeds.derive(8, "a", "b")}) == 4


def test_generators_repeat() -> None:
    first, again = (seeds.generator(7, "x").random(5) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_torch_is_seeded_and_its_threads_fixed() -> None:
    before = torch.get_num_threads()
    seeds.fix_torch(3, 1)
    first = torch.rand(4)
    seeds.fix_torch(3, 1)
    assert torch.equal(first, torch.rand(4))
    assert torch.get_num_threads() == 1
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(before)
