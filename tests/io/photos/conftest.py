"""Pictures that the tests write and read."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def colors() -> np.ndarray:
    """A smooth 16-bit RGB picture whose channels differ, so that swapped or repeated ones show."""
    y, x = np.mgrid[:37, :53]  # odd, and larger than a tile
    return np.stack([x * 1200, y * 1700, (x + y) * 700], axis=2).astype(np.uint16)
