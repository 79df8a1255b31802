"""Cuts are seen; what merely moves or brightens is none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from quantface_core.faces.cuts import is_cut, thumb_of
from quantface_core.io.photos import read_photo


def _wide(path: Path) -> np.ndarray:
    return cv2.resize(read_photo(path).pixels, (320, 180), interpolation=cv2.INTER_AREA)


def test_other_pictures_are_cuts_even_of_portraits(test_faces: list[Path], photos: Path) -> None:
    pictures = [_wide(path) for path in (*test_faces[:6], *sorted(photos.iterdir())[:3])]
    thumbs = [thumb_of(picture) for picture in pictures]
    pairs = [(a, b) for i, a in enumerate(thumbs) for b in thumbs[i + 1 :]]
    assert sum(is_cut(a, b) for a, b in pairs) >= 0.9 * len(pairs)


def test_moving_brightening_and_noise_are_none(test_faces: list[Path]) -> None:
    draws = np.random.default_rng(0)
    for path in test_faces[:6]:
        picture = _wide(path)
        moved = cv2.warpAffine(
            picture, np.array([[1.02, 0, 12.0], [0, 1.02, 4.0]]), (320, 180), borderMode=cv2.BORDER_REFLECT
        )
        noisy = np.clip(moved * 1.3 + draws.normal(0, 15, moved.shape), 0, 255).astype(np.uint8)
        assert not is_cut(thumb_of(picture), thumb_of(noisy))
        assert not is_cut(thumb_of(picture), thumb_of(picture))


def test_black_frames() -> None:
    black, gray = np.zeros((90, 160, 3), np.uint8), np.full((90, 160, 3), 128, np.uint8)
    assert not is_cut(thumb_of(black), thumb_of(black))
    assert not is_cut(thumb_of(gray), thumb_of(gray))
