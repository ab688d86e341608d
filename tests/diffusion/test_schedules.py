"""Schedules: signal and noise, derivatives, inverses and the tables that others publish."""

from __future__ import annotations

import math

import pytest
import torch
from diffusion_cases import ALL_SCHEDULES
from hypothesis import given
from hypothesis import strategies as st

from diffbot.diffusion import (
    SPACINGS,
    DiffusionError,
    RectifiedFlow,
    Schedule,
    VPDiscreteLinear,
    VPSquaredCosine,
    schedule_by_name,
    spacing,
)
from diffbot.diffusion.schedule import scalars, time_of_ratio

by_name = pytest.mark.parametrize("schedule", ALL_SCHEDULES, ids=lambda s: s.name)


@by_name
def test_data_at_zero_noise_at_one(schedule: Schedule) -> None:
    first, last = scalars(schedule, 0.0), scalars(schedule, 1.0)
    assert first.alpha == 1.0 and first.sigma == 0.0
    assert last.sigma == pytest.approx(schedule.prior_std, rel=1e-2)
    assert last.alpha < 0.01 or schedule.family == "ve"


@by_name
@given(t=st.floats(1e-4, 1.0))
def test_variance_preserving_means_unit_sum_of_squares(schedule: Schedule, t: float) -> None:
    c = scalars(schedule, t)
    if schedule.family == "vp":
        assert c.alpha**2 + c.sigma**2 == pytest.approx(1.0, abs=1e-12)
    if schedule.family == "ve":
        assert c.alpha == 1.0
    if schedule.family == "flow":
        assert c.alpha + c.sigma == pytest.approx(1.0, abs=1e-12)


@by_name
def test_derivatives_are_those_of_the_coefficients(schedule: Schedule) -> None:
    # Between grid points, where the derivative of a tabulated schedule jumps.
    t = torch.linspace(0.05, 0.95, 37, dtype=torch.float64) + 1.3e-4
    step = 1e-7
    high, low, at = schedule(t + step), schedule(t - step), schedule(t)
    torch.testing.assert_close((high.alpha - low.alpha) / (2 * step), at.d_alpha, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close((high.sigma - low.sigma) / (2 * step), at.d_sigma, rtol=1e-5, atol=1e-6)


@by_name
@given(t=st.floats(0.002, 0.998))
def test_time_inverts_log_snr(schedule: Schedule, t: float) -> None:
    level = torch.tensor(scalars(schedule, t).log_snr, dtype=torch.float64)
    assert float(schedule.time(level)) == pytest.approx(t, abs=1e-9)
    assert time_of_ratio(schedule, scalars(schedule, t).ratio) == pytest.approx(t, abs=1e-9)


@by_name
def test_noise_grows_with_time(schedule: Schedule) -> None:
    t = torch.linspace(0.001, 1.0, 500, dtype=torch.float64)
    levels = schedule(t).log_snr
    assert bool((levels[1:] < levels[:-1]).all())


@by_name
@pytest.mark.parametrize("name", ["uniform", "quadratic", "log_snr", "karras"])
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_spacings_fall_from_noise_to_data(schedule: Schedule, name: str, steps: int) -> None:
    times = spacing(name)(schedule, steps)
    assert times.shape == (steps + 1,) and times.dtype == torch.float64
    assert bool((times[:-1] > times[1:]).all())
    assert 0.998 < float(times[0]) <= 1.0 and float(times[-1]) == 0.0


def test_log_snr_and_karras_are_even_in_their_own_variable() -> None:
    schedule = schedule_by_name("vp_linear")
    levels = schedule(spacing("log_snr")(schedule, 12)[:-1]).log_snr
    torch.testing.assert_close(levels.diff(), levels.diff().mean().expand(11))
    roots = torch.exp(-0.5 * schedule(spacing("karras", rho=5.0)(schedule, 12)[:-1]).log_snr) ** 0.2
    torch.testing.assert_close(roots.diff(), roots.diff().mean().expand(11))


def test_uniform_steps_of_edm_are_the_karras_grid() -> None:
    """sigma = sigma_max t^7: equal steps in t are equal steps in sigma^(1/7)."""
    edm = schedule_by_name("edm", sigma_min=1e-9)
    sigmas = edm(spacing("uniform")(edm, 8)).sigma
    torch.testing.assert_close(sigmas, 80.0 * (torch.arange(8, -1, -1, dtype=torch.float64) / 8) ** 7)


def test_diffusion_policy_table() -> None:
    """squaredcos_cap_v2 at K = 100: published betas at both ends and the cap."""
    betas = VPSquaredCosine(100).betas()

    def bar(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    assert float(betas[0]) == pytest.approx(1 - bar(0.01) / bar(0.0), rel=1e-12)
    assert float(betas[-1]) == 0.999
    levels = torch.cumprod(1 - betas, 0)
    t = torch.arange(1, 101, dtype=torch.float64) / 100
    torch.testing.assert_close(VPSquaredCosine(100)(t).alpha ** 2, levels, rtol=1e-12, atol=0.0)


def test_grid_times_read_their_own_entry_in_single_precision() -> None:
    schedule = VPDiscreteLinear(1000)
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    torch.testing.assert_close(schedule(t.float()).alpha.double(), schedule(t).alpha, rtol=3e-6, atol=1e-7)


def test_discrete_layouts() -> None:
    schedule = VPSquaredCosine(100)

    def steps(layout: str) -> list[int]:
        return (spacing("discrete", layout=layout)(schedule, 5) * 100).round().int().tolist()

    assert steps("leading") == [81, 61, 41, 21, 1, 0]
    assert steps("trailing") == [100, 80, 60, 40, 20, 0]
    assert steps("linspace") == [100, 75, 51, 26, 1, 0]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: schedule_by_name("vp_linea"), "Did you mean 'vp_linear'"),
        (lambda: schedule_by_name("edm", sigma_mx=3.0), "Did you mean 'sigma_max'"),
        (lambda: schedule_by_name("edm", sigma_max=0.001), "0 < sigma_min < sigma_max"),
        (lambda: spacing("karas"), "Did you mean 'karras'"),
        (lambda: spacing("uniform")(RectifiedFlow(), 0), "at least one step"),
        (lambda: spacing("discrete")(RectifiedFlow(), 5), "needs a K-step schedule"),
        (lambda: spacing("discrete")(VPSquaredCosine(10), 11), "do not fit the 10-step grid"),
        (lambda: spacing("uniform", start=0.2, end=0.4)(RectifiedFlow(), 5), "from 0.2 to 0.4"),
    ],
)
def test_bad_settings_name_the_valid_ones(call: object, text: str) -> None:
    with pytest.raises(DiffusionError, match=text):
        call()  # type: ignore[operator]


def test_every_spacing_is_listed() -> None:
    assert set(SPACINGS) == {"uniform", "quadratic", "log_snr", "karras", "discrete"}
