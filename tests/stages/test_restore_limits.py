"""Photos and faces of no usual shape, and requests that are refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quantface_core.errors import ImageError, QuantFaceError, UsageError
from quantface_core.faces.boxes import face_in_box
from quantface_core.options import RestoreOptions
from quantface_core.restorer import OneStepRestorer
from quantface_core.stages.restore import restore_aligned, restore_photo
from quantface_core.types import Face


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((0, 5, 3), np.uint8), np.zeros((5, 5), np.uint8), np.zeros((5, 5, 4), np.uint8), np.zeros((5, 5, 3))],
)
def test_what_is_no_photo_is_refused(tiny: OneStepRestorer, pixels: np.ndarray) -> None:
    with pytest.raises(ImageError, match="photo"):
        restore_photo(pixels, tiny, [])


@pytest.mark.parametrize(
    ("restorer", "message"),
    [
        ("quantface-mini", r"a loaded one: load_restorer\(restorer_path\('quantface-mini'\)\)$"),
        (Path("mine.safetensors"), r"a loaded one: load_restorer\(restorer_path\('mine\.safetensors'\)\)$"),
        (None, "a restorer is what load_restorer returns, got None"),
        (torch.nn.Conv2d(3, 3, 1), r"a restorer is what load_restorer returns, got Conv2d"),
        (OneStepRestorer, r"a restorer is what load_restorer returns, got <class"),
    ],
)
def test_what_is_no_restorer_is_refused(restorer: Any, message: str) -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    for restored in (lambda: restore_photo(pixels, restorer, []), lambda: restore_aligned(pixels, restorer)):
        with pytest.raises(UsageError, match=message):
            restored()


def test_options_out_of_range_are_refused(tiny: OneStepRestorer) -> None:
    with pytest.raises(UsageError, match="strength must be"):
        restore_photo(np.zeros((8, 8, 3), np.uint8), tiny, [], RestoreOptions(strength=1.5))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 40)])
def test_pictures_of_a_pixel_s_width_come_back(mini: OneStepRestorer, shape: tuple[int, int]) -> None:
    photo = np.full((*shape, 3), 90, np.uint8)
    face = face_in_box((-5.0, -5.0, 20.0, 20.0))
    assert restore_photo(photo, mini, [face]).pixels.shape == photo.shape


def test_a_face_that_leaves_the_photo_is_restored_until_it_is_outside(mini: OneStepRestorer) -> None:
    photo = np.full((200, 200, 3), 90, np.uint8)
    inside = face_in_box((60.0, 60.0, 60.0, 80.0))
    counts = []
    for left in np.arange(220, 260, 8.25):
        result = restore_photo(photo, mini, [inside, face_in_box((float(left), 60.0, 60.0, 80.0))])
        counts.append(len(result.restored))
    assert counts[0] == 2
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 1


def test_a_face_of_no_shape_is_left_as_one_outside_is(mini: OneStepRestorer) -> None:
    photo = np.full((200, 200, 3), 90, np.uint8)
    shapeless, inside = Face((0, 0, 9, 9), ((1, 1),) * 5, 1.0), face_in_box((60.0, 60.0, 60.0, 80.0))
    result = restore_photo(photo, mini, [shapeless, inside])
    assert result.faces == (shapeless, inside)
    assert [face.position for face in result.restored] == [1]


@pytest.mark.parametrize("value", ["nan", "inf"])
@pytest.mark.parametrize("strength", ["auto", 1.0])
def test_what_is_not_finite_is_never_pasted(tiny: OneStepRestorer, strength: float | str, value: str) -> None:
    broken = copy.deepcopy(tiny)
    broken.forward = lambda images, *_: torch.full_like(images, float(value))  # type: ignore[method-assign]
    with pytest.raises(QuantFaceError, match="not finite"):
        restore_aligned(np.full((64, 64, 3), 90, np.uint8), broken, RestoreOptions(strength=strength))
