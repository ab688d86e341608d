"""Batches ahead of time and from disk equal those gathered one by one from memory."""

import numpy as np
import pytest
import torch
from data_cases import IMAGE_CONTRACT, make_store

from diffbot.data.loader import Loader
from diffbot.data.store import EpisodeStore
from diffbot.data.stream import StreamedArray, decoder_pool
from diffbot.data.window_spec import WindowSpec
from diffbot.data.windows import Windows
from diffbot.errors import ConfigError, DataError

SPEC = WindowSpec(
    observation_horizon=2, horizon=3, goal="future", next_observations=True, task="mode", stride=2
)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> EpisodeStore:
    return make_store(tmp_path_factory.mktemp("loader") / "s.zarr", [21, 6, 30, 11], IMAGE_CONTRACT)


def same(a, b):
    for (name, x), (other, y) in zip(a.tensors(), b.tensors(), strict=True):
        assert name == other and torch.equal(x, y), name


def one_by_one(windows, count):
    sampler = windows.sampler(4, 7)
    return [windows.gather(next(sampler), generator=sampler.generator()) for _ in range(count)]


@pytest.mark.parametrize("group", [1, 3, None])
@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("stream", [(), ("camera",), ("state", "camera")])
def test_a_loader_gives_what_gathering_one_by_one_gives(store, group, prefetch, stream):
    want = one_by_one(Windows(store, SPEC), 10)
    windows = Windows(store, SPEC, stream=stream)
    loader = Loader(windows, windows.sampler(4, 7), group=group, prefetch=prefetch)
    for batch in want:
        got = next(loader)
        for (name, x), y in zip(
            batch.tensors(), (dict(got.tensors())[n] for n, _ in batch.tensors()), strict=True
        ):
            assert torch.equal(x, y), name
    loader.close()


@pytest.mark.parametrize("at", [0, 1, 4, 5])
def test_resuming_is_exact_whatever_was_prepared_ahead(store, at):
    windows = Windows(store, SPEC)
    want = one_by_one(windows, at + 5)
    loader = Loader(windows, windows.sampler(4, 7), group=3, prefetch=2)
    for _ in range(at):
        next(loader)
    state = loader.state_dict()
    resumed = Loader(windows, windows.sampler(4, 7), group=2)
    next(resumed)
    resumed.load_state_dict(state)
    for batch in want[at:]:
        same(next(resumed), batch)
        same(next(loader), batch)
    loader.load_state_dict(state)
    same(next(loader), want[at])
    loader.close()


@pytest.mark.parametrize("kind", ["zstd", "jpeg", "format 3", "zip"])
def test_streams_of_every_kind_equal_memory_with_a_cache_of_one_chunk(tmp_path, kind):
    options = {"jpeg": {"image_codec": "jpeg"}, "format 3": {"zarr_format": 3}}.get(kind, {})
    store = make_store(tmp_path / "s.zarr", [21, 6, 30], IMAGE_CONTRACT, **options)
    if kind == "zip":
        import shutil

        shutil.make_archive(str(tmp_path / "s"), "zip", tmp_path, "s.zarr")
        store = EpisodeStore.open(tmp_path / "s.zip")
    with decoder_pool() as pool:
        stream = StreamedArray(store, "camera", pool, cache_bytes=1)
        steps = np.random.default_rng(0).integers(0, store.steps, (7, 5))
        np.testing.assert_array_equal(stream.take(steps), store.load(["camera"])["camera"][steps])
        assert len(stream._cache) == 1


def test_a_chunk_that_is_lost_is_an_error_each_time(tmp_path):
    store = make_store(tmp_path / "s.zarr", [40], IMAGE_CONTRACT)
    windows = Windows(store, WindowSpec(), stream=("camera",))
    (store.path / "data/camera/1.0.0.0").unlink()
    loader = Loader(windows, windows.sampler(40, 0))
    for _ in range(2):
        with pytest.raises(DataError, match="cannot read the chunk"):
            next(loader)
    loader.close()


def test_prioritised_sampling_does_not_gather_ahead(store):
    windows = Windows(store, WindowSpec(horizon=1))
    with pytest.raises(ConfigError, match="cannot gather ahead"):
        Loader(windows, windows.prioritized_sampler(4, 0), prefetch=1)
    assert Loader(windows, windows.prioritized_sampler(4, 0)).group == 1
    with pytest.raises(DataError, match="cannot stream 'action'"):
        Windows(store, WindowSpec(), stream=("action",))
