"""DPM-Solver (Lu et al. 2022a) and DPM-Solver++ (Lu et al. 2022b): exponential integrators in lambda = log(alpha/sigma).

Legend, for a step from t to s: h = lambda_s - lambda_t > 0; m the model value, either the noise eps (DPM-Solver) or the
clean sample x0 (DPM-Solver++). Both forms read

    x_s = A x_t + B (phi1 m + phi2 D1 + phi3 D2)

with D1, D2 the scaled first and second differences of m over the step. A step that ends at sigma = 0 (h infinite) is of first
order and gives the clean estimate itself. Thresholding is the constraint `Threshold`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from diffbot.diffusion.constraints import Constraint
from diffbot.diffusion.denoiser import Denoise
from diffbot.diffusion.errors import DiffusionError
from diffbot.diffusion.schedule import Scalars, scalars
from diffbot.diffusion.solvers.run import Callback, Run, needs_alpha

Form = Literal["noise", "sample"]


@dataclass(frozen=True)
class Weights:
    """The numbers of one exponential step."""

    A: float
    B: float
    phi1: float
    phi2: float
    phi3: float


def exponential_weights(form: Form, t: Scalars, s: Scalars) -> Weights:
    """Weights of a deterministic step from t to s (Lu et al. 2022a, Eq. 3.4 and App. B; 2022b, Eq. 8-9)."""
    h = s.half_log_snr - t.half_log_snr
    if form == "sample":
        phi1 = -math.expm1(-h)
        phi2 = 1.0 - phi1 / h
        phi3 = 0.5 - (h - phi1) / h**2 if math.isfinite(h) else 0.5
        return Weights(s.sigma / t.sigma, s.alpha, phi1, phi2, phi3)
    if not math.isfinite(h):  # sigma_s = 0: B phi1 m -> -(alpha_s / alpha_t) sigma_t eps
        return Weights(s.alpha / t.alpha, -(s.alpha / t.alpha) * t.sigma, 1.0, 0.0, 0.0)
    phi1 = math.expm1(h)
    return Weights(s.alpha / t.alpha, -s.sigma, phi1, phi1 / h - 1.0, (phi1 - h) / h**2 - 0.5)


def dpm_singlestep(
    denoise: Denoise,
    x: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator | None = None,
    constraint: Constraint | None = None,
    callback: Callback | None = None,
    order: int = 2,
    form: Form = "sample",
) -> Tensor:
    """Singlestep solver of order 1-3 with `order` evaluations a step.

    "noise": DPM-Solver-1/2/3 (2022a, Alg. 1-2, r = 1/2 and r1 = 1/3, r2 = 2/3); "sample": DPM-Solver++(1S/2S/3S) (2022b, Alg. 1).
    Order 2: u at the middle, x_u = A x + B phi1 m; x <- A x + B phi1 m_u (D1 = 2 (m_u - m) with weight phi1/2).
    Order 3:
    1. u at lambda + h/3:   x_u = A x + B phi1 m                         D_u = m_u - m
    2. v at lambda + 2h/3:  x_v = A x + B (phi1 m + phi2 2 D_u)          D_v = m_v - m
    3. x <- A x + B (phi1 m + phi2 (3/2) D_v)
    """
    name = f"{'dpmpp' if form == 'sample' else 'dpm'}_singlestep"
    _check(name, order, form)
    run = Run(name, denoise, x, times, generator=generator, constraint=constraint, callback=callback)
    if order > 1 or form == "noise":
        needs_alpha(run, "log(alpha/sigma)")
    x = run.begin(x)
    for i in range(run.steps):
        t, s = run.at[i], run.at[i + 1]
        h = s.half_log_snr - t.half_log_snr
        x0 = run.sample(x, run.times[i])
        m = _value(form, x0, x, t)
        w = exponential_weights(form, t, s)
        if order == 1 or not math.isfinite(h):
            new = torch.add(w.A * x, m, alpha=w.B * w.phi1)
        elif order == 2:
            new, x0 = _midpoint(run, form, x, m, t, s)
        else:
            inner, u = _between(run, t, h, 1.0 / 3.0)
            wu = exponential_weights(form, t, u)
            x_u = torch.add(wu.A * x, m, alpha=wu.B * wu.phi1)
            m_u = _value(form, run.probe(x_u, inner), x_u, u)
            inner, v = _between(run, t, h, 2.0 / 3.0)
            wv = exponential_weights(form, t, v)
            x_v = torch.add(wv.A * x, m, alpha=wv.B * (wv.phi1 - 2.0 * wv.phi2))
            x_v = x_v.add_(m_u, alpha=wv.B * 2.0 * wv.phi2)
            x0 = run.probe(x_v, inner)
            new = torch.add(w.A * x, m, alpha=w.B * (w.phi1 - 1.5 * w.phi2))
            new = new.add_(_value(form, x0, x_v, v), alpha=w.B * 1.5 * w.phi2)
        x = run.after(i, new, x, x0)
    return run.finish(x)


def dpm_multistep(
    denoise: Denoise,
    x: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator | None = None,
    constraint: Constraint | None = None,
    callback: Callback | None = None,
    order: int = 2,
    form: Form = "sample",
) -> Tensor:
    """Multistep solver of order 1-3: one evaluation a step, lower orders while the history fills.

    Order 3 takes its first step by the singlestep order 2 (one more evaluation): a first-order start would leave an error
    of order 2 in the result.

    "sample": DPM-Solver++(2M) (2022b, Alg. 2) and its third-order extension; "noise": the same with eps (2022b, App. B).
    With h0, h1 the two steps before, r0 = h0/h, r1 = h1/h and m, m1, m2 the newest values:
    1. D1_0 = (m - m1)/r0, D1_1 = (m1 - m2)/r1
    2. order 2: x <- A x + B phi1 (m + D1_0 / 2)
       order 3: D1 = D1_0 + r0/(r0 + r1) (D1_0 - D1_1), D2 = 2 (D1_0 - D1_1)/(r0 + r1);
                x <- A x + B (phi1 m + phi2 D1 + phi3 D2)
    D2 is h^2 m'', so that phi3 = the integral of its Taylor term. Widely used code has half of it, which leaves order 2.
    """
    name = f"{'dpmpp' if form == 'sample' else 'dpm'}_multistep"
    _check(name, order, form)
    run = Run(name, denoise, x, times, generator=generator, constraint=constraint, callback=callback)
    if form == "noise":
        needs_alpha(run, "log(alpha/sigma)")
    x = run.begin(x)
    history: list[Tensor] = []
    for i in range(run.steps):
        t, s = run.at[i], run.at[i + 1]
        x0 = run.sample(x, run.times[i])
        history = [_value(form, x0, x, t), *history[: order - 1]]
        w = exponential_weights(form, t, s)
        factors = _multistep_factors(w, run, i, len(history))
        new = w.A * x
        for value, factor in zip(history, factors, strict=False):
            new.add_(value, alpha=w.B * factor)
        if order == 3 and i == 0 and t.alpha > 0.0 and s.sigma > 0.0:
            new = _midpoint(run, form, x, history[0], t, s)[0]
        x = run.after(i, new, x, x0)
    return run.finish(x)


def dpm_sde(
    denoise: Denoise,
    x: Tensor,
    times: Tensor,
    *,
    generator: torch.Generator | None = None,
    constraint: Constraint | None = None,
    callback: Callback | None = None,
    order: int = 2,
    form: Form = "sample",
    temperature: float = 1.0,
) -> Tensor:
    """SDE-DPM-Solver(++)-1 and -2M (2022b, Sec. 5 and App. C): the reverse SDE by the same integrator.

    "sample": x <- sigma_s/sigma_t e^-h x + alpha_s (1 - e^-2h) (m + D1/2) + sigma_s sqrt(1 - e^-2h) z
    "noise":  x <- alpha_s/alpha_t x - 2 sigma_s (e^h - 1) (m + D1/2) + sigma_s sqrt(e^2h - 1) z
    """
    name = f"{'dpmpp' if form == 'sample' else 'dpm'}_sde"
    _check(name, order, form, highest=2)
    run = Run(name, denoise, x, times, generator=generator, constraint=constraint, callback=callback)
    if form == "noise":
        needs_alpha(run, "log(alpha/sigma)")
    x = run.begin(x)
    last: Tensor | None = None
    for i in range(run.steps):
        t, s = run.at[i], run.at[i + 1]
        h = s.half_log_snr - t.half_log_snr
        x0 = run.sample(x, run.times[i])
        m = _value(form, x0, x, t)
        if not math.isfinite(h) and s.sigma == 0.0:
            A, B, std = 0.0, s.alpha, 0.0
        elif form == "sample":
            A, B = s.sigma / t.sigma * math.exp(-h), -s.alpha * math.expm1(-2.0 * h)
            std = s.sigma * math.sqrt(-math.expm1(-2.0 * h))
        else:
            A, B = s.alpha / t.alpha, -2.0 * s.sigma * math.expm1(h)
            std = s.sigma * math.sqrt(math.expm1(2.0 * h))
        if std == 0.0:
            new = s.alpha * x0
        else:
            half = 0.0
            if last is not None and order == 2:
                half = 0.5 * h / (t.half_log_snr - run.at[i - 1].half_log_snr)
            new = torch.add(A * x, m, alpha=B * (1.0 + half))
            if last is not None and half > 0.0:
                new.add_(last, alpha=-B * half)
            if temperature > 0.0:
                new.add_(run.noise(x), alpha=temperature * std)
        last = m
        x = run.after(i, new, x, x0)
    return run.finish(x)


def _multistep_factors(w: Weights, run: Run, i: int, held: int) -> tuple[float, ...]:
    """Weights of m, m1, m2 inside B (...) for step i with `held` values in the history."""
    levels = [c.half_log_snr for c in run.at[max(i - 2, 0) : i + 2]]
    h = levels[-1] - levels[-2]
    if held == 1 or not math.isfinite(h):
        return (w.phi1,)
    r0 = (levels[-2] - levels[-3]) / h
    if held == 2:
        half = 0.5 * w.phi1 / r0
        return w.phi1 + half, -half
    r1 = (levels[-3] - levels[-4]) / h
    if not math.isfinite(r1):
        half = 0.5 * w.phi1 / r0
        return w.phi1 + half, -half
    share, curve = r0 / (r0 + r1), 2.0 * w.phi3 / (r0 + r1)
    on_new, on_old = w.phi2 * (1.0 + share) + curve, -w.phi2 * share - curve
    return w.phi1 + on_new / r0, on_old / r1 - on_new / r0, -on_old / r1


def _midpoint(run: Run, form: Form, x: Tensor, m: Tensor, t: Scalars, s: Scalars) -> tuple[Tensor, Tensor]:
    """One singlestep of order 2 with r = 1/2: x at s, and the clean estimate at the middle."""
    inner, u = _between(run, t, s.half_log_snr - t.half_log_snr, 0.5)
    half, whole = exponential_weights(form, t, u), exponential_weights(form, t, s)
    x_u = torch.add(half.A * x, m, alpha=half.B * half.phi1)
    x0 = run.probe(x_u, inner)
    return torch.add(whole.A * x, _value(form, x0, x_u, u), alpha=whole.B * whole.phi1), x0


def _value(form: Form, x0: Tensor, x: Tensor, c: Scalars) -> Tensor:
    return x0 if form == "sample" else torch.add(x, x0, alpha=-c.alpha) / c.sigma


def _between(run: Run, t: Scalars, h: float, fraction: float) -> tuple[float, Scalars]:
    """The time at lambda_t + fraction h, and the schedule there."""
    level = 2.0 * (t.half_log_snr + fraction * h)
    time = float(run.schedule.time(torch.tensor(level, dtype=torch.float64)))
    return time, scalars(run.schedule, time)


def _check(name: str, order: int, form: str, highest: int = 3) -> None:
    if order not in range(1, highest + 1):
        raise DiffusionError(f"{name} has orders 1 to {highest}, not {order}")
    if form not in ("noise", "sample"):
        raise DiffusionError(f"unknown form '{form}' of {name}. Valid: noise, sample.")
