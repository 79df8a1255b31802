"""Which arrays are photos, and the depths of those that are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from quantface_core.bit_depth import check_pixels, in_shares
from quantface_core.errors import ImageError
from quantface_core.faces.detect import FaceDetector

_PHOTO = np.zeros((8, 6, 3), np.uint8)
_NOT_PHOTOS: list[tuple[Any, str]] = [
    (Image.fromarray(_PHOTO), r"must be a NumPy array, as read_photo\(path\).pixels or np.array\(image\), got Image$"),
    ("photo.jpg", "got str$"),
    (torch.from_numpy(_PHOTO), "got Tensor$"),
    (_PHOTO / 255, "must be uint8 or uint16, got float64"),
    (_PHOTO[..., 0], r"must be \[height, width, 3\] and not empty, got \[8, 6\]"),
    (np.dstack([_PHOTO, _PHOTO[..., 0]]), r"got \[8, 6, 4\]"),
    (_PHOTO[:0], r"got \[0, 6, 3\]"),
]


@pytest.mark.parametrize(("given", "message"), _NOT_PHOTOS)
def test_what_is_no_photo_is_named(detector: FaceDetector, given: Any, message: str) -> None:
    checks: list[Callable[[Any], Any]] = [check_pixels, detector, lambda pixels: detector.within(pixels, [])]
    for check in checks:
        with pytest.raises(ImageError, match=message):
            check(given)


def test_photos_pass() -> None:
    for pixels in (_PHOTO, _PHOTO.astype(np.uint16), _PHOTO[:, ::-1]):
        check_pixels(pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_shares_of_white_are_from_0_to_1_and_stay_as_they_are(dtype: type[Any]) -> None:
    white = np.iinfo(dtype).max
    shares = in_shares(np.array([0, white // 5, white], dtype))
    assert shares.dtype == np.float32
    assert shares.tolist() == [0, np.float32(0.2), 1]
    assert in_shares(shares) is shares
