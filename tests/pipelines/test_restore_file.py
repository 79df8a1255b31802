from __future__ import annotations

import numpy as np
import pytest

from quantface_core.pipelines import restore_file
from quantface_core.pipelines.restore_file import side_by_side


def test_before_and_after_share_one_size() -> None:
    before, after = np.zeros((10, 20, 3), np.uint8), np.full((40, 80, 3), 200, np.uint8)
    shown = side_by_side(before, after)
    assert shown.shape == (40, 80 + 2 + 80, 3)
    assert shown[:, :80].max() == 0
    assert shown[:, 80:82].min() == 255
    assert (shown[:, 82:] == 200).all()


def test_a_huge_comparison_is_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore_file, "_COMPARE_PIXELS", 2 * 50 * 50)
    picture = np.full((100, 100, 3), 9, np.uint16)
    assert side_by_side(picture, picture).shape == (50, 50 + 2 + 50, 3)
