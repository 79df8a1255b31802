"""Drawn damage: every kind draws something, and nothing changes where it is not."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

KINDS = ("cracks", "network_of_cracks", "creases", "scratches", "dust", "spots", "fibres", "scuffs")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn(module: ModuleType, kind: str) -> None:
    drawn = [getattr(module, kind)(64, np.random.default_rng(seed)) for seed in range(8)]
    for plane in drawn:
        assert plane.shape == (64, 64)
        assert plane.dtype == np.float32
        assert 0 <= plane.min() <= plane.max() <= 1
    assert 0 < np.mean(drawn) < 0.5
    again = getattr(module, kind)(64, np.random.default_rng(0))
    assert np.array_equal(again, drawn[0])


def test_nothing_changes_where_no_damage_is(module: ModuleType) -> None:
    image = np.random.default_rng(0).random((64, 64, 3), np.float32)
    for seed in range(12):
        damaged = module.damage(image, np.random.default_rng(seed))
        assert damaged.opacity.max() > 0
        intact = damaged.opacity == 0
        assert np.array_equal(damaged.image[intact], image[intact])
        assert not np.array_equal(damaged.image, image)
