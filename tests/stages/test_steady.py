"""The faces of a film steadied, before they are restored."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from quantface_core.faces.align import Matrix, compose, invert, resizing, shift, warp
from quantface_core.faces.paste import face_mask
from quantface_core.stages.steady import Steadier
from quantface_core.types import Pixels
from tests.stages.test_film import noisy_film


@pytest.mark.parametrize("small_first", [True, False])
def test_a_face_within_a_larger_one_is_steadied_as_by_itself(small_first: bool) -> None:
    mask = face_mask(64)
    small, large = compose(shift(-60, -40), resizing(1, 1, 1.6, 1.6)), resizing(1, 1, 0.6, 0.6)

    def steadied(transforms: dict[int, Matrix]) -> Pixels:
        steadier, film = Steadier(2.0, mask), noisy_film(14)
        frames = [s for one in film for s in steadier.update(one.frame, transforms, dict.fromkeys(transforms, 1.0))]
        frames += steadier.flush()
        assert film[7].frame is not None
        return frames[7].over(film[7].frame.rgb())

    alone, both = steadied({0: small}), steadied({0: small, 1: large} if small_first else {1: large, 0: small})
    inside = warp(mask, invert(small), 200, 100, cv2.BORDER_CONSTANT) >= 1
    assert inside.sum() > 300
    assert np.array_equal(alone[inside], both[inside])
    assert not np.array_equal(alone, both)


def test_a_frame_is_returned_once_all_frames_that_it_is_averaged_with_are_there() -> None:
    steadier = Steadier(2.0, face_mask(64))
    returned = [len(list(steadier.update(None, {}, {}))) for _ in range(steadier.delay + 3)]
    assert returned == [0] * steadier.delay + [1, 1, 1]
