"""Truncated and mutated files: one error each time; never a crash, a hang, a partial store or code from the file."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_formats import SUFFIX, TWO_WAY, WITH_IMAGES, make_store

from diffbot.data.formats.base import ImportOptions, format_by_name
from diffbot.data.formats.convert import export_dataset, import_dataset
from diffbot.data.store import EpisodeStore
from diffbot.errors import DiffbotError


@pytest.fixture(scope="module", params=TWO_WAY)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    store = make_store(folder / "store.zarr", images=request.param in WITH_IMAGES)
    path = folder / f"file{SUFFIX.get(request.param, '')}"
    export_dataset(store, path, format_by_name(request.param))
    return request.param, path


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(data=st.data())
def test_damaged_files(exported: tuple[str, Path], data: st.DataObject) -> None:
    name, original = exported
    with tempfile.TemporaryDirectory(dir=original.parent) as scratch:
        path = Path(scratch) / original.name
        (shutil.copytree if original.is_dir() else shutil.copy)(original, path)
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        target = data.draw(st.sampled_from(files))
        content = bytearray(target.read_bytes())
        if data.draw(st.booleans()):
            content = content[: data.draw(st.integers(0, max(0, len(content) - 1)))]
        else:
            for _ in range(data.draw(st.integers(1, 8))):
                content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        target.write_bytes(bytes(content))
        out = Path(scratch) / "out.zarr"
        try:
            store = import_dataset(path, out, format_by_name(name), ImportOptions(rate=20))
        except DiffbotError as error:
            assert str(error)
            assert not out.exists(), "a failed import left a store behind"
        else:
            # A flipped bit can fall on a value; then the store must be whole and readable.
            assert len(EpisodeStore.open(out)) == len(store) and store.load(["action"])
        assert not list(Path(scratch).glob("*.importing"))
