"""The test faces as arrays, read once."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantface_core.io.photos import read_photo
from quantface_core.types import Pixels


@pytest.fixture(scope="session")
def faces(test_faces: list[Path]) -> list[Pixels]:
    """Sixteen of them, [256, 256, 3]."""
    return [read_photo(path).pixels for path in test_faces[:16]]
