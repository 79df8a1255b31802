"""How much is changed of a face, and of the detail finer than its crop."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from quantface_core.faces.area import Area
from quantface_core.faces.clean import CleanFace
from quantface_core.options import RestoreOptions
from quantface_core.stages.blending import Blending

MASK = np.ones((64, 64), np.float32)


def removal(artifacts: str, options: RestoreOptions) -> float:
    face = CleanFace(Area(0, 0, 8, 8), np.zeros((8, 8, 3), np.uint8), artifacts, 1.0)
    return Blending(options, MASK).removal(face)


@pytest.mark.parametrize(("strength", "share"), [("auto", 1.0), (1.0, 1.0), (0.25, 0.25), (0.0, 0.0)])
def test_damage_is_removed_as_far_as_the_strength_says(strength: float | Literal["auto"], share: float) -> None:
    for artifacts in ("noise", "compression", "blocks"):
        assert removal(artifacts, RestoreOptions(strength=strength, grain=0.0)) == share


def test_a_share_of_noise_alone_stays() -> None:
    assert removal("noise", RestoreOptions(grain=0.25)) == 0.75
    assert removal("noise", RestoreOptions(strength=0.5, grain=0.5)) == 0.25
    assert removal("blocks", RestoreOptions(grain=0.25)) == 1


def test_with_auto_detail_is_kept_where_the_crop_kept_its_own() -> None:
    before = np.random.default_rng(0).random((64, 64, 3), np.float32)
    change = np.zeros_like(before)
    change[:, :32] = 0.5 - before[:, :32]  # the left half is made flat
    fine_detail = Blending(RestoreOptions(strength="auto"), MASK).fine_detail(before, change)
    assert fine_detail is not None
    assert fine_detail.keep[:, :24].max() < 0.1
    assert fine_detail.keep[:, 40:].min() > 0.9
    assert Blending(RestoreOptions(strength=1.0), MASK).fine_detail(before, change) is None
