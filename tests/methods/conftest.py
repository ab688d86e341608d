"""A small contract."""

from __future__ import annotations

import pytest

from diffbot.data.contract import Action, Contract, Field


@pytest.fixture
def contract() -> Contract:
    return Contract({"position": Field((2,)), "goal": Field((1,))}, Action((2,)), rate=10.0)
