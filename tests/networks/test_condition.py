"""Conditions and the null token of classifier-free guidance."""

from __future__ import annotations

import pytest
import torch

from diffbot.errors import ConfigError
from diffbot.networks import Condition, ConditionDropout, Sizes

SIZES = Sizes((8, 3), condition_dim=5, local_dim=2, token_dim=6)


def condition(batch: int = 4) -> Condition:
    return Condition(torch.ones(batch, 5), torch.ones(batch, 8, 2), torch.ones(batch, 7, 6))


def test_parts_must_share_the_batch():
    with pytest.raises(ConfigError, match="differ in batch size"):
        Condition(torch.zeros(2, 3), torch.zeros(3, 4, 5))
    with pytest.raises(ConfigError, match="token_mask but no tokens"):
        Condition(token_mask=torch.ones(2, 3, dtype=torch.bool))


def test_rows_repeat_and_stack():
    rows = Condition(torch.arange(6.0).view(3, 2))
    assert rows.repeat(2).global_[:, 0].tolist() == [0, 0, 2, 2, 4, 4]
    assert torch.equal(Condition.cat([rows[:1], rows[1:]]).global_, rows.global_)
    assert rows[torch.tensor([2, 0])].global_[:, 0].tolist() == [4, 0]
    assert Condition().batch is None and rows.batch == 3
    with pytest.raises(ConfigError, match="cannot be stacked"):
        Condition.cat([rows, condition(3)])


def test_dropped_rows_become_the_null_token_in_every_part():
    dropout = ConditionDropout(SIZES)
    drop = torch.tensor([True, False, True, False])
    given, out = condition(), dropout(condition(), drop=drop)
    null = dropout.null(given)
    for name, tensor in out.present().items():
        assert torch.equal(tensor[drop], null.present()[name][drop])
        assert torch.equal(tensor[~drop], given.present()[name][~drop])


def test_the_rate_is_p_and_follows_the_generator():
    dropout = ConditionDropout(Sizes((3,), condition_dim=1), p=0.25)
    given = Condition(torch.full((20_000, 1), 9.0))
    first = dropout(given, generator=torch.Generator().manual_seed(0)).global_
    again = dropout(given, generator=torch.Generator().manual_seed(0)).global_
    assert torch.equal(first, again)
    assert abs((first != 9.0).double().mean().item() - 0.25) < 4 * (0.25 * 0.75 / 20_000) ** 0.5


def test_null_tokens_are_learned():
    dropout = ConditionDropout(SIZES)
    sum(tensor.sum() for tensor in dropout.null(condition()).present().values()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in dropout.parameters())


def test_bad_arguments_are_refused():
    with pytest.raises(ConfigError, match="needs a generator"):
        ConditionDropout(SIZES)(condition())
    with pytest.raises(ConfigError, match=r"bool of shape \[4\]"):
        ConditionDropout(SIZES)(condition(), drop=torch.zeros(3, dtype=torch.bool))
    with pytest.raises(ConfigError, match="'local' has no null token"):
        ConditionDropout(Sizes((3,), condition_dim=5)).null(condition())
    with pytest.raises(ConfigError, match=r"in \[0, 1\], not 2"):
        ConditionDropout(SIZES, p=2)
