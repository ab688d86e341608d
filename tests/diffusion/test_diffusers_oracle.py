"""Step-by-step equality with the schedulers of the diffusers package, in float64."""

from __future__ import annotations

import pytest

pytest.importorskip("diffusers")

from benchmarks._diffusers_oracle import ORACLES


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", ORACLES)
def test_every_step_equals_diffusers(case: str) -> None:
    assert ORACLES[case]() <= 1e-9
