"""A photo enhanced for the detector."""

from __future__ import annotations

import numpy as np

from quantface_core.faces.enhance import contrast_stretched, descreened


def test_only_a_faded_picture_is_stretched() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    assert contrast_stretched(picture) is picture
    pale = np.rint(150 + 0.2 * picture).astype(np.uint8)
    assert np.ptp(contrast_stretched(pale).astype(int)) == 255
    assert np.abs(contrast_stretched(pale).astype(int) - picture).mean() < 8


def test_next_to_no_contrast_stays_little() -> None:
    """Rounding is not blown up to full contrast, and an even picture stays even."""
    noise = np.random.default_rng(0).integers(100, 104, (90, 90, 3), dtype=np.uint8)
    assert np.ptp(contrast_stretched(noise).astype(int)) == 24
    assert np.ptp(contrast_stretched(np.full((4, 4, 3), 7, np.uint8))) == 0


def test_dots_of_a_print_merge() -> None:
    dots = np.zeros((60, 60, 3), np.uint8)
    dots[::4, ::4] = 255
    assert descreened(dots)[15:45, 15:45].std() < 0.02 * dots.std()
