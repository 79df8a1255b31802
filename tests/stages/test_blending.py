"""How much is changed of a face, and of the detail finer than its crop."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from quantface_core.options import RestoreOptions
from quantface_core.stages.blending import fine_detail_of, removal_of


@pytest.mark.parametrize(("strength", "removal"), [("auto", 1.0), (1.0, 1.0), (0.25, 0.25), (0.0, 0.0)])
def test_damage_is_removed_as_far_as_the_strength_says(strength: float | Literal["auto"], removal: float) -> None:
    for artifacts in ("noise", "compression", "blocks"):
        assert removal_of(artifacts, RestoreOptions(strength=strength, grain=0.0)) == removal


def test_a_share_of_noise_alone_stays() -> None:
    assert removal_of("noise", RestoreOptions(grain=0.25)) == 0.75
    assert removal_of("noise", RestoreOptions(strength=0.5, grain=0.5)) == 0.25
    assert removal_of("blocks", RestoreOptions(grain=0.25)) == 1


def test_with_auto_detail_is_kept_where_the_crop_kept_its_own() -> None:
    before = np.random.default_rng(0).random((64, 64, 3), np.float32)
    change = np.zeros_like(before)
    change[:, :32] = 0.5 - before[:, :32]  # the left half is made flat
    fine_detail = fine_detail_of(before, change, "auto")
    assert fine_detail is not None
    assert fine_detail.keep[:, :24].max() < 0.1
    assert fine_detail.keep[:, 40:].min() > 0.9
    assert fine_detail_of(before, change, 1.0) is None
