"""Drawn scenes: images of the size asked, in which details are fine."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest


def test_shapes_fill_an_image(module: ModuleType) -> None:
    images = [module.dead_leaves(48, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert all(image.shape == (48, 48, 3) and image.dtype == np.uint8 for image in images)
    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])
    assert min(image.std() for image in images) > 10


@pytest.mark.parametrize("add", ["with_details", "with_glasses"])
def test_details_are_drawn_into_an_image(module: ModuleType, add: str) -> None:
    plain = np.full((64, 64, 3), 120, np.uint8)
    changed = [(getattr(module, add)(plain, np.random.default_rng(seed)) != plain).any(2).mean() for seed in range(12)]
    assert np.mean(np.array(changed) > 0) > 0.8
    assert np.median(changed) < 0.8
