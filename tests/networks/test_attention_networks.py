"""Masks and symmetries of the networks with attention."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from network_cases import make

from diffbot.errors import ConfigError
from diffbot.networks import Condition, build
from diffbot.networks.attention import Attention


@pytest.mark.parametrize("causal", [False, True])
def test_attention_equals_pytorch_multi_head_attention(causal):
    ours = Attention(12, 3).double()
    theirs = torch.nn.MultiheadAttention(12, 3, batch_first=True).double()
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = ours.qkv.weight.data, ours.qkv.bias.data
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = torch.ones(5, 5, dtype=torch.bool).triu(1) if causal else None
    expected, _ = theirs(x, x, x, attn_mask=mask)
    torch.testing.assert_close(ours(x, causal=causal), expected, rtol=0, atol=1e-12)


def test_agents_may_be_permuted():
    case = make("agent_unet")
    order = torch.tensor([2, 0, 3, 1])
    permuted = dataclasses.replace(case.condition, tokens=case.condition.tokens[:, order])
    out = case.net(case.x, case.t, case.condition)
    torch.testing.assert_close(
        case.net(case.x[:, order], case.t, permuted), out[:, order], rtol=0, atol=1e-12
    )


def test_agents_see_each_other_but_not_the_absent():
    case = make("agent_unet")
    moved = case.x.clone()
    moved[:, 0] += 1.0
    out, after = (case.net(x, case.t, case.condition) for x in (case.x, moved))
    assert all(not torch.allclose(out[:, i], after[:, i]) for i in range(4))
    present = torch.ones(3, 4, dtype=torch.bool)
    present[:, 0] = False
    masked = dataclasses.replace(case.condition, token_mask=present)
    out, after = (case.net(x, case.t, masked) for x in (case.x, moved))
    torch.testing.assert_close(out[:, 1:], after[:, 1:], rtol=0, atol=1e-12)


def test_absent_everywhere_is_finite():
    case = make("agent_unet")
    nobody = dataclasses.replace(case.condition, token_mask=torch.zeros(3, 4, dtype=torch.bool))
    assert torch.isfinite(case.net(case.x, case.t, nobody)).all()


def test_the_number_of_agents_must_match():
    case = make("agent_unet")
    wrong = dataclasses.replace(case.condition, tokens=case.condition.tokens[:, :3])
    with pytest.raises(ConfigError, match="4 agents need 4 condition tokens, not 3"):
        case.net(case.x, case.t, wrong)


@pytest.mark.parametrize("name", ["transformer", "dit"])
def test_masked_tokens_do_not_matter(name):
    case = make(name)
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[:, 2:] = False
    first = dataclasses.replace(case.condition, token_mask=mask)
    second = dataclasses.replace(first, tokens=F.pad(first.tokens[:, :2], (0, 0, 0, 2), value=9.0))
    out = case.net(case.x, case.t, first)
    torch.testing.assert_close(case.net(case.x, case.t, second), out, rtol=0, atol=1e-12)
    assert not torch.allclose(out, case.net(case.x, case.t, case.condition))


@pytest.mark.parametrize("causal", [False, True])
def test_causal_steps_do_not_see_later_ones(causal):
    net = (
        build({"name": "transformer", "width": 32, "layers": 2, "causal": causal}, (8, 3), 5).double().eval()
    )
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, 3, generator=g, dtype=torch.float64)
    condition = Condition(torch.randn(2, 5, generator=g, dtype=torch.float64))
    later = x.clone()
    later[:, 5:] += 1.0
    t = torch.full((2,), 0.5, dtype=torch.float64)
    same = torch.allclose(net(x, t, condition)[:, :5], net(later, t, condition)[:, :5], rtol=0, atol=1e-12)
    assert same == causal


def test_dit_blocks_are_the_identity_at_first():
    net = build({"name": "dit", "width": 32, "layers": 2}, (8, 3), 5)
    x = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(net(x, torch.rand(2), Condition(torch.ones(2, 5))), torch.zeros(2, 8, 3))
    h = torch.randn(2, 8, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(net.blocks[0](h, torch.ones(2, 32), None), h)


def test_one_directional_lstm_is_causal():
    net = build({"name": "lstm", "width": 16, "bidirectional": False}, (8, 3)).double()
    x = torch.zeros(1, 8, 3, dtype=torch.float64)
    later = x.clone()
    later[:, 5:] = 1.0
    t = torch.full((1,), 0.5, dtype=torch.float64)
    torch.testing.assert_close(net(x, t)[:, :5], net(later, t)[:, :5], rtol=0, atol=1e-12)
