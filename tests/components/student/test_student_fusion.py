from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from components.student.fusion import MemoryBank, MemoryGuidedFusion

SCALES = [8, 12, 16, 24]


@pytest.fixture
def features():
    torch.manual_seed(1)
    return [torch.randn(2, width, 24 // 2**i, 16 // 2**i) for i, width in enumerate(SCALES)]


def fusion(prototypes=5, alpha="learned", **switches):
    torch.manual_seed(2)
    return MemoryGuidedFusion(SCALES, 6, prototypes, alpha, **switches).eval()


def test_final_response_is_the_equation(features):
    module = fusion()
    module.alpha_logit.data.fill_(0.7)
    parts = module.responses(features)
    mean = torch.stack(parts.gates).mean(0)
    alpha = 1 / (1 + torch.exp(torch.tensor(-0.7)))
    expected = alpha * (parts.base * mean) + (1 - alpha) * parts.memory
    torch.testing.assert_close(parts.final, expected)
    torch.testing.assert_close(module(features), module.head(expected))


def test_fused_is_the_gated_sum_on_one_grid(features):
    module = fusion()
    parts = module.responses(features)
    total = torch.zeros_like(parts.fused)
    for project, gate, feature, given in zip(
        module.project, module.gate, features, parts.gates, strict=True
    ):
        scale = F.interpolate(project(feature), size=(24, 16), mode="bilinear")
        torch.testing.assert_close(gate(scale).sigmoid(), given)
        total += given * scale
    torch.testing.assert_close(parts.fused, total)
    torch.testing.assert_close(parts.base, module.base(total))


def test_gates_are_shares_and_differ_by_place(features):
    for gate in fusion().responses(features).gates:
        assert gate.shape == (2, 1, 24, 16)
        assert gate.min() > 0
        assert gate.max() < 1
        assert gate.std() > 0


def test_memory_is_scaled_dot_product_attention(features):
    torch.manual_seed(3)
    bank, fused = MemoryBank(6, 5).eval(), torch.randn(2, 6, 4, 3)
    queries = bank.query(fused).flatten(2).transpose(1, 2)
    rows = bank.prototypes.expand(2, -1, -1)
    expected = F.scaled_dot_product_attention(queries, rows, rows)
    torch.testing.assert_close(bank(fused), expected.transpose(1, 2).reshape(2, 6, 4, 3))


def test_bank_never_changes_at_inference_and_learns_in_training(features):
    module = fusion()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    for _ in range(3):
        module(features)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    module.train()
    module(features).square().mean().backward()
    assert module.memory.prototypes.grad.abs().sum() > 0
    assert module.alpha_logit.grad.abs() > 0


def test_alpha_fixed_has_nothing_to_learn(features):
    module = fusion(alpha=0.25)
    assert module.alpha().item() == 0.25
    assert not any("alpha" in name for name, _ in module.named_parameters())
    parts = module.responses(features)
    mean = torch.stack(parts.gates).mean(0)
    torch.testing.assert_close(parts.final, 0.25 * parts.base * mean + 0.75 * parts.memory)


def test_no_prototypes_no_memory(features):
    module = fusion(prototypes=0)
    parts = module.responses(features)
    assert parts.memory is None
    assert parts.alpha.item() == 1
    assert not any("memory" in name or "alpha" in name for name in module.state_dict())
    torch.testing.assert_close(parts.final, parts.base * torch.stack(parts.gates).mean(0))


def test_without_gates_the_scales_are_summed_as_they_are(features):
    module = fusion(gates=False)
    parts = module.responses(features)
    assert parts.gates == []
    assert not any("gate" in name for name in module.state_dict())
    total = sum(module._scales(features)[0])
    torch.testing.assert_close(parts.fused, total)
    torch.testing.assert_close(parts.final, 0.5 * parts.base + 0.5 * parts.memory)


def test_without_dual_guidance_the_observation_stands_alone(features):
    parts = fusion(dual_guidance=False).responses(features)
    assert len(parts.gates) == 4
    torch.testing.assert_close(parts.final, 0.5 * parts.base + 0.5 * parts.memory)
    alone = fusion(0, dual_guidance=False).responses(features)
    assert torch.equal(alone.final, alone.base)
