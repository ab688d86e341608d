"""What is wrong, or strange, about a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from diffbot.data import layout
from diffbot.data.contract import Contract, Field
from diffbot.data.store import EpisodeStore
from diffbot.errors import ContractError, DataError


@dataclass(frozen=True)
class Finding:
    """One thing found. `error` means that training on it would be wrong; `warning` that somebody should look."""

    level: Literal["error", "warning"]
    check: str
    message: str


@dataclass(frozen=True)
class Thresholds:
    """When something counts as strange."""

    outlier: float = (
        8.0  # distance from the median in robust standard deviations (1.4826 times the median distance)
    )
    constant: float = 1e-6  # largest spread, in a dimension's own unit, that counts as constant
    pause: float = 1.0  # s without motion
    motion: float = 1e-4  # largest change per step of any state that counts as no motion
    gap: float = 1.5  # time between two steps, in control periods
    rate: float = 0.02  # deviation of the mean rate from the contract's, as a fraction


def check(
    store: EpisodeStore,
    *,
    statistics: Mapping[str, Tensor] | None = None,
    against: Contract | None = None,
    thresholds: Thresholds | None = None,
) -> list[Finding]:
    """All findings, errors first. statistics: of a policy ("key/0/offset"); against: an environment's contract."""
    limits = thresholds or Thresholds()
    findings = [*_structure(store), *_meta(store)]
    if not store.has_contract:
        findings.append(
            Finding("error", "contract", "the dataset has no contract. Import it: diffbot data import")
        )
    elif not any(f.level == "error" for f in findings):
        findings += _contract(store, against)
        for key in (*store.contract.state_keys, "action", *_extra_floats(store)):
            findings += _values(store, key, limits)
        findings += _images(store)
        findings += _time(store, limits)
        findings += _pauses(store, limits)
        findings += _statistics(store, statistics)
    return sorted(findings, key=lambda f: f.level)


def check_path(path: str | Path, **options: Any) -> list[Finding]:
    """As `check`; a dataset that does not open is one finding."""
    try:
        store = EpisodeStore.open(path)
    except (DataError, ContractError) as error:
        return [Finding("error", "open", str(error))]
    return check(store, **options)


def _structure(store: EpisodeStore) -> Iterator[Finding]:
    if store.tail:
        yield Finding(
            "warning",
            "torn tail",
            f"an interrupted writer left {store.tail}; the next writer removes it by itself",
        )
    if not len(store):
        yield Finding("error", "episodes", "the dataset holds no episode")
    for key in store.keys:
        missing = _missing_chunks(store, key)
        if missing:
            yield Finding(
                "error", "chunks", f"'{key}' lacks {len(missing)} chunks ({missing[0]} ...): data is lost"
            )


def _missing_chunks(store: EpisodeStore, key: str) -> list[str]:
    """Chunk files of committed steps that are not there. Datasets of other tools may leave out chunks of zeros."""
    node = store.array(key)
    folder = store.path / layout.DATA / key
    if not store.has_contract or not folder.is_dir() or node.metadata.zarr_format != 2 or not store.steps:
        return []
    trailing = [range(-(-n // c)) for n, c in zip(node.shape[1:], node.chunks[1:], strict=True)]
    names = [str(i) for i in range(-(-store.steps // node.chunks[0]))]
    separator = node.metadata.dimension_separator
    for axis in trailing:
        names = [f"{name}{separator}{i}" for name in names for i in axis]
    return [name for name in names if not (folder / name).exists()]


def _meta(store: EpisodeStore) -> Iterator[Finding]:
    for name in store.meta_names:
        values = store.meta(name)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            yield Finding(
                "warning", "meta", f"'{name}' is not finite for {int((~np.isfinite(values)).sum())} episodes"
            )


def _contract(store: EpisodeStore, against: Contract | None) -> Iterator[Finding]:
    fields: dict[str, Field] = {**store.contract.observations, "action": store.contract.action}
    for key, field in fields.items():
        if key not in store.keys:
            yield Finding("error", "contract", f"the contract has '{key}', the dataset has no such array")
            continue
        node = store.array(key)
        if node.shape[1:] != field.shape or node.dtype != np.dtype(field.dtype):
            yield Finding(
                "error",
                "contract",
                f"'{key}' is {node.dtype} {node.shape[1:]}, the contract says {field.dtype} {field.shape}",
            )
    if against is not None:
        try:
            against.require_match(store.contract, "environment", "dataset")
        except ContractError as error:
            yield Finding("error", "contract", str(error))


def _extra_floats(store: EpisodeStore) -> list[str]:
    known = {*store.contract.observations, "action", "time"}
    return [k for k in store.keys if k not in known and store.array(k).dtype.kind == "f"]


def _values(store: EpisodeStore, key: str, limits: Thresholds) -> Iterator[Finding]:
    if key not in store.keys:
        return
    x = store.load([key])[key].reshape(store.steps, -1).astype(np.float64)
    bad = ~np.isfinite(x)
    if bad.any():
        where = _where(store, np.flatnonzero(bad.any(1)))
        yield Finding(
            "error", "non-finite", f"'{key}' holds {int(bad.sum())} NaN or infinite values: {where}"
        )
        return
    field = store.contract.action if key == "action" else store.contract.observations.get(key)
    if field is not None:
        yield from _range(store, key, x, field)
    if key not in store.contract.observations and key != "action":
        return
    spread = np.ptp(x, axis=0)
    constant = np.flatnonzero(spread <= limits.constant)
    if len(constant):
        yield Finding("warning", "constant", f"'{key}' dimensions {_names(field, constant)} never change")
    median = np.median(x, axis=0)
    sigma = 1.4826 * np.median(np.abs(x - median), axis=0)
    # A dimension that rests most of the time has no robust spread; its ordinary one stands in.
    sigma = np.where(sigma > limits.constant, sigma, x.std(0))
    far = np.abs(x - median) > limits.outlier * np.where(sigma > limits.constant, sigma, np.inf)
    for d in np.flatnonzero(far.any(0)):
        steps = np.flatnonzero(far[:, d])
        worst = steps[np.argmax(np.abs(x[steps, d] - median[d]))]
        yield Finding(
            "warning",
            "outlier",
            f"'{key}' dimension {_names(field, [d])}: {len(steps)} values lie over {limits.outlier:g} robust standard "
            f"deviations from the median {median[d]:.4g}; the worst is {x[worst, d]:.4g}: {_where(store, [worst])}",
        )


def _range(store: EpisodeStore, key: str, x: np.ndarray, field: Field) -> Iterator[Finding]:
    for bound, beyond in (("low", np.less), ("high", np.greater)):
        value = getattr(field, bound)
        if value is None:
            continue
        slack = 1e-6 * np.maximum(1.0, np.abs(value))
        outside = beyond(x, np.asarray(value) + (slack if bound == "high" else -slack)).any(1)
        if outside.any():
            where = _where(store, np.flatnonzero(outside))
            yield Finding("error", "range", f"'{key}' passes the contract's {bound} {value}: {where}")


def _images(store: EpisodeStore) -> Iterator[Finding]:
    for key in store.contract.image_keys:
        if key not in store.keys:
            continue
        middles = ((store.episode_starts + store.episode_ends) // 2).tolist()
        flat = [e for e, step in enumerate(middles) if np.ptp(store.read(key, step, step + 1)) == 0]
        if flat:
            yield Finding(
                "warning", "image", f"'{key}' is one plain colour half-way through episodes {flat[:10]}"
            )


def _time(store: EpisodeStore, limits: Thresholds) -> Iterator[Finding]:
    if "time" not in store.keys:
        return
    period = 1.0 / store.contract.rate
    time = store.load(["time"])["time"].reshape(-1).astype(np.float64)
    rates, gaps, backwards = [], [], []
    for start, end in zip(store.episode_starts, store.episode_ends, strict=True):
        step = np.diff(time[start:end])
        backwards += (start + 1 + np.flatnonzero(step <= 0)).tolist()
        gaps += (start + 1 + np.flatnonzero(step > limits.gap * period)).tolist()
        rates += [1.0 / np.median(step)] if len(step) and np.median(step) > 0 else []
    if backwards:
        yield Finding("error", "time", f"time stands still or runs backwards: {_where(store, backwards)}")
    if gaps:
        yield Finding(
            "warning", "time gap", f"{len(gaps)} gaps of over {limits.gap:g} periods: {_where(store, gaps)}"
        )
    wrong = [(e, r) for e, r in enumerate(rates) if abs(r * period - 1) > limits.rate]
    if wrong:
        yield Finding(
            "error",
            "rate",
            f"{len(wrong)} episodes were not recorded at the contract's {store.contract.rate:g} Hz; "
            f"episode {wrong[0][0]} has {wrong[0][1]:.3g} Hz",
        )


def _pauses(store: EpisodeStore, limits: Thresholds) -> Iterator[Finding]:
    keys = [k for k in store.contract.state_keys if k in store.keys]
    steps = max(2, round(limits.pause * store.contract.rate))
    if not keys:
        return
    found = []
    for e in range(len(store)):
        arrays = store.episode(e, keys)
        moved = np.max(
            [np.abs(np.diff(v.reshape(len(v), -1), axis=0)).max(1, initial=0) for v in arrays.values()], 0
        )
        still = np.concatenate([[0], (moved <= limits.motion).astype(int), [0]])
        begin, end = np.flatnonzero(np.diff(still) == 1), np.flatnonzero(np.diff(still) == -1)
        found += [(e, int(b), int(n)) for b, n in zip(begin, end - begin, strict=True) if n >= steps]
    if found:
        e, b, n = max(found, key=lambda f: f[2])
        yield Finding(
            "warning",
            "pause",
            f"{len(found)} pauses of {limits.pause:g} s or more in {len({f[0] for f in found})} episodes; the longest lasts "
            f"{n / store.contract.rate:.2f} s from step {b} of episode {e}. A policy may learn to stand still there",
        )


def _statistics(store: EpisodeStore, statistics: Mapping[str, Tensor] | None) -> Iterator[Finding]:
    if statistics is None:
        return
    for key, field in {**store.contract.observations, "action": store.contract.action}.items():
        if field.kind == "image":
            continue
        mine = {name: v for name, v in statistics.items() if name.split("/")[0] == key}
        offset = next((v for n, v in mine.items() if n.endswith("/offset")), None)
        scale = next((v for n, v in mine.items() if n.endswith("/scale")), None)
        if offset is None or scale is None:
            yield Finding("error", "statistics", f"the policy has no statistics for '{key}'")
        elif tuple(offset.shape) != field.shape:
            yield Finding(
                "error",
                "statistics",
                f"statistics of '{key}' have shape {tuple(offset.shape)}, not {field.shape}",
            )
        else:
            x = store.load([key])[key]
            share = np.abs((x - offset.numpy()) / scale.numpy()).reshape(len(x), -1).max(1) > 3.0
            if share.mean() > 0.01:
                yield Finding(
                    "warning",
                    "statistics",
                    f"{share.mean():.1%} of the steps of '{key}' are beyond ±3 with the policy's statistics: "
                    "they were taken from other data",
                )


def _names(field: Field | None, dimensions: Any) -> str:
    names = field.names if field is not None else ()
    return ", ".join(f"{d} ({names[d]})" if names else str(d) for d in map(int, dimensions))


def _where(store: EpisodeStore, steps: Any) -> str:
    """The first few steps as "episode 3 step 14"."""
    steps = np.asarray(steps)
    episodes = np.searchsorted(store.episode_ends, steps, side="right")
    places = [
        f"episode {e} step {s - store.episode_starts[e]}"
        for s, e in zip(steps[:3], episodes[:3], strict=True)
    ]
    return ", ".join(places) + (f" and {len(steps) - 3} more" if len(steps) > 3 else "")
