"""Follows a target with bounded value, velocity, acceleration and jerk, in exact discrete time.

Variables: x value, v and a its first and second differences over dt, q = J dt the largest change of a in one tick.

    a_k = a_{k-1} + dt j_k        v_k = v_{k-1} + dt a_k        x_k = x_{k-1} + dt v_k

so the bounds hold for the finite differences of the emitted values, not only for a continuous model of them. Safety is by
induction: a state is safe when braking from it keeps every bound, a tick moves only to safe states, and braking itself
is always such a move.
"""

from __future__ import annotations

import numpy as np

CANDIDATES = np.linspace(0.0, 1.0, 9)[:, None]
EPS = 1e-12


def ramp_acceleration(dv: np.ndarray, dt: float, q: np.ndarray) -> np.ndarray:
    """The next acceleration from which ramping down to zero by q per tick changes the velocity by exactly `dv`.

    With n = floor(u), u = a/q, the ramp a, a - q, a - 2q, ... sums to q((n + 1) u - n (n + 1) / 2), which is inverted here.
    Infinite q means that one tick does it all: a = dv / dt.
    """
    y = np.abs(dv) / dt
    with np.errstate(invalid="ignore"):
        m = y / q
        n = np.floor((np.sqrt(1.0 + 8.0 * m) - 1.0) / 2.0 + EPS)
        a = np.where(np.isinf(q), y, q * (m / (n + 1.0) + n / 2.0))
    return np.sign(dv) * a


def ramp_velocity(a: np.ndarray, dt: float, q: np.ndarray) -> np.ndarray:
    """Change of velocity while `a`, counted from the next tick on, ramps to zero: dt (a - q + a - 2q + ...)."""
    with np.errstate(invalid="ignore"):
        u = np.abs(a) / q
        n = np.floor(u)
        total = np.where(np.isinf(q), 0.0, q * (n * u - n * (n + 1.0) / 2.0))
    return np.sign(a) * dt * total


class Shaper:
    """One tick at a time for D independent entries. All arrays float64 [D].

    low, high, velocity, acceleration, jerk: bounds, infinite where there is none. first_order: bool [D], entries whose value
    is itself a velocity (delta commands): they have no position, `low` and `high` bound v, and they stop at zero.
    """

    def __init__(
        self,
        low: np.ndarray,
        high: np.ndarray,
        velocity: np.ndarray,
        acceleration: np.ndarray,
        jerk: np.ndarray,
        first_order: np.ndarray,
        dt: float,
    ) -> None:
        self.low, self.high, self.first_order, self.dt = low, high, first_order, dt
        self.v_low = np.where(first_order, low, -velocity)
        self.v_high = np.where(first_order, high, velocity)
        self.acceleration = acceleration
        self.q = jerk * dt
        self.free = ~first_order & np.isinf(velocity) & np.isinf(acceleration)
        self._stop_ticks = self._longest_stop()
        self.reset(np.clip(np.zeros(len(low)), low, high))

    def reset(self, value: np.ndarray) -> None:
        """Start at rest at `value` [D] (clipped into the range)."""
        value = np.clip(np.asarray(value, np.float64), self.low, self.high)
        self.x = np.where(self.first_order, 0.0, value)
        self.v = np.where(self.first_order, value, 0.0)
        self.a = np.zeros_like(value)
        self.binding = ""

    @property
    def value(self) -> np.ndarray:
        """The last emitted command [D]."""
        return np.where(self.first_order, self.v, self.x)

    @property
    def at_rest(self) -> bool:
        """Whether nothing moves any more."""
        return bool((np.abs(self.v) <= 1e-9).all() and (np.abs(self.a) <= 1e-6).all())

    def follow(self, target: np.ndarray) -> np.ndarray:
        """Move as near to `target` [D] as the bounds allow; returns the new command [D]."""
        asked, target = target, np.clip(target, self.low, self.high)
        exact_v = np.where(self.first_order, target, (target - self.x) / self.dt)
        exact_a = (exact_v - self.v) / self.dt
        self.binding = self._binding(asked, target, exact_v, exact_a)
        wanted = self._approach(target - self.x, exact_v, exact_a)
        return self._move(wanted, target)

    def _binding(self, asked: np.ndarray, target: np.ndarray, v: np.ndarray, a: np.ndarray) -> str:
        """The first bound that keeps the target from being reached in this tick."""
        if (asked != target).any():
            return "position"
        if ((v < self.v_low - EPS) | (v > self.v_high + EPS))[~self.free].any():
            return "velocity"
        if (np.abs(a) > self.acceleration + EPS)[~self.free].any():
            return "acceleration"
        return "jerk" if (np.abs(a - self.a) > self.q + EPS)[~self.free].any() else "braking"

    def stop(self) -> np.ndarray:
        """One tick of the fastest smooth stop; returns the new command [D]."""
        return self._move(self._toward_velocity(np.zeros_like(self.v)), None)

    def _approach(self, error: np.ndarray, exact_v: np.ndarray, exact_a: np.ndarray) -> np.ndarray:
        """Acceleration that reaches the target next tick where that is possible, else closes in without overshoot."""
        a_low, a_high = self._reachable()
        exact = (exact_a >= a_low) & (exact_a <= a_high)
        exact &= (exact_v >= self.v_low - EPS) & (exact_v <= self.v_high + EPS)
        distance = np.abs(error)
        with np.errstate(invalid="ignore", divide="ignore"):
            # Braking distance v^2 / 2A plus the ticks and the jerk ramp that pass before the full deceleration.
            lag = self.dt + np.where(np.isinf(self.q), 0.0, self.dt * self.acceleration / self.q)
            b = self.acceleration * lag
            cap = np.where(
                np.isinf(self.acceleration),
                distance / self.dt,
                np.sqrt(b * b + 2.0 * self.acceleration * distance) - b,
            )
        approach = self._toward_velocity(np.clip(np.sign(error) * cap, self.v_low, self.v_high))
        first = self._toward_velocity(np.clip(exact_v, self.v_low, self.v_high))
        return np.where(exact, exact_a, np.where(self.first_order, first, approach))

    def _toward_velocity(self, v: np.ndarray) -> np.ndarray:
        a_low, a_high = self._reachable()
        return np.clip(ramp_acceleration(v - self.v, self.dt, self.q), a_low, a_high)

    def _reachable(self) -> tuple[np.ndarray, np.ndarray]:
        """Accelerations of the next tick that keep the jerk, acceleration and velocity bounds, now and later."""
        low = np.maximum(self.a - self.q, -self.acceleration)
        high = np.minimum(self.a + self.q, self.acceleration)
        v_high = ramp_acceleration(np.maximum(self.v_high - self.v, 0.0), self.dt, self.q)
        v_low = ramp_acceleration(np.minimum(self.v_low - self.v, 0.0), self.dt, self.q)
        return np.minimum(np.maximum(low, v_low), high), np.maximum(np.minimum(high, v_high), low)

    def _move(self, wanted: np.ndarray, target: np.ndarray | None) -> np.ndarray:
        brake = self._toward_velocity(np.zeros_like(self.v))
        a = self._safest(wanted, brake)
        v = self.v + self.dt * a
        x = np.where(self.first_order, 0.0, self.x + self.dt * v)
        if target is not None:
            # Entries that only have a range take the target itself: no rounding through differences.
            x = np.where(self.free, target, x)
            v, a = np.where(self.free, 0.0, v), np.where(self.free, 0.0, a)
        else:
            x, v, a = (np.where(self.free, old, new) for old, new in ((self.x, x), (0.0, v), (0.0, a)))
        # Without a jerk bound the last acceleration binds nothing, so it must not count as motion either.
        self.x, self.v, self.a = x, v, np.where(np.isinf(self.q), 0.0, a)
        return np.clip(self.value, self.low, self.high)

    def _safest(self, wanted: np.ndarray, brake: np.ndarray) -> np.ndarray:
        """The acceleration nearest to `wanted`, on the line from `brake`, from which braking stays inside the range."""
        bounded = ~self.first_order & ~self.free & (np.isfinite(self.low) | np.isfinite(self.high))
        if not bounded.any() or not self._near_range(wanted, bounded):
            return wanted
        a = brake + CANDIDATES * (wanted - brake)
        v = self.v + self.dt * a
        x = self.x + self.dt * v
        safe = (x >= self.low) & (x <= self.high)
        q, limit = self.q, self.acceleration
        for _ in range(self._stop_ticks):
            a = np.clip(
                ramp_acceleration(-v, self.dt, q), np.maximum(a - q, -limit), np.minimum(a + q, limit)
            )
            v = v + self.dt * a
            x = x + self.dt * v
            safe &= (x >= self.low) & (x <= self.high)
            if (np.abs(v) <= EPS).all() and (np.abs(a) <= EPS).all():
                break
        best = np.where(safe, CANDIDATES, 0.0).max(axis=0)
        return np.where(bounded, brake + best * (wanted - brake), wanted)

    def _near_range(self, wanted: np.ndarray, bounded: np.ndarray) -> bool:
        """Whether an upper bound of the stopping distance reaches the range: skips the search in the open."""
        v = np.abs(self.v) + self.dt * np.maximum(np.abs(wanted), np.abs(self.a))
        with np.errstate(invalid="ignore", divide="ignore"):
            ramp = np.where(np.isinf(self.q), 0.0, self.dt * self.acceleration / self.q)
            top = np.where(np.isinf(self.acceleration), v, v + self.acceleration * ramp)
            brake = np.where(np.isinf(self.acceleration), 0.0, top * top / (2.0 * self.acceleration))
        reach = brake + top * (2.0 * ramp + 2.0 * self.dt)
        near = (self.x + reach > self.high) | (self.x - reach < self.low) | ~np.isfinite(reach)
        return bool((near & bounded).any())

    def _longest_stop(self) -> int:
        """Ticks that a stop from the highest velocity takes at most (bounded by 4096)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            speed = np.where(self.first_order, 0.0, self.v_high)
            coast = np.where(np.isinf(self.acceleration), 0.0, speed / self.acceleration)
            ramp = np.where(np.isinf(self.q), 0.0, 2.0 * self.acceleration / (self.q / self.dt))
        seconds = float(np.nan_to_num(coast + ramp, nan=0.0, posinf=4096 * self.dt).max(initial=0.0))
        return min(int(np.ceil(seconds / self.dt)) + 4, 4096)
