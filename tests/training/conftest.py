"""A small dataset for every test."""

from __future__ import annotations

from pathlib import Path

import pytest
from point_dataset import make_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "point.zarr")
