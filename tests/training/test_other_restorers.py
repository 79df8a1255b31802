"""What stands for other restorers when the blend network is trained."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest


def test_every_alteration_is_drawn_and_nonsense_only_if_asked(module: ModuleType) -> None:
    rng = np.random.default_rng(0)
    faces = module.Faces(*rng.random((4, 32, 32, 3), np.float32))
    assert sum(module.ALTERATIONS.values()) == pytest.approx(1)
    for kind in module.ALTERATIONS:
        image = kind(faces, rng)
        assert image.shape == (32, 32, 3)
        assert np.array_equal(image, faces.restored) == (kind.__name__ == "unchanged")
    for nonsense in (False, True):
        results = [module.altered(faces, nonsense, rng) for _ in range(300)]
        share = np.mean([np.array_equal(x, faces.restored) for x in results])
        unchanged = 0.45 + (0 if nonsense else sum(module.ALTERATIONS[kind] for kind in module.NONSENSE))
        assert share == pytest.approx(unchanged, abs=0.08)
