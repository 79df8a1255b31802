"""Scratches are found and redrawn; the rest of a photo stays as it was."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from quantface_core import read_photo, repair_scratches
from quantface_core.errors import ImageError
from quantface_core.faces import area
from tests.scratched import as_print, error, scratched


@pytest.fixture(scope="module")
def print_(astronaut: np.ndarray) -> np.ndarray:
    return as_print(astronaut)


def test_scratches_are_redrawn(print_: np.ndarray) -> None:
    bad, where = scratched(print_)
    repair = repair_scratches(bad)
    assert (repair.mask[where] > 0.5).mean() > 0.8
    assert error(repair.pixels, print_, where) < 0.25 * error(bad, print_, where)


def test_what_is_not_redrawn_keeps_its_exact_values(print_: np.ndarray) -> None:
    bad, where = scratched(print_)
    repair = repair_scratches(bad)
    kept = repair.mask == 0
    assert kept.mean() > 0.8
    assert np.array_equal(repair.pixels[kept], bad[kept])
    assert repair.share == pytest.approx(repair.mask.mean())
    far = cv2.dilate(where.astype(np.uint8), np.ones((15, 15), np.uint8)) == 0
    assert (repair.mask[far] > 0.5).mean() < 0.02


def test_a_photo_without_scratches_stays(test_faces: list[Path]) -> None:
    shares = [repair_scratches(read_photo(path).pixels).share for path in test_faces[:8]]
    assert np.median(shares) < 0.01


def test_16_bits_are_repaired_alike(print_: np.ndarray) -> None:
    bad, _ = scratched(print_)
    shallow, deep = repair_scratches(bad), repair_scratches(bad.astype(np.uint16) * 257)
    assert deep.pixels.dtype == np.uint16
    assert np.array_equal(deep.mask, shallow.mask)
    assert np.abs(deep.pixels / 257.0 - shallow.pixels).max() <= 0.5


def test_black_and_white_stays_so(print_: np.ndarray) -> None:
    bad, _ = scratched(print_)
    repaired = repair_scratches(bad).pixels
    assert (repaired == repaired[..., :1]).all()


def test_a_toned_print_keeps_its_tone(print_: np.ndarray) -> None:
    """Although the cracks show the paper, in another colour."""
    whole = np.rint(print_ * (1, 0.86, 0.66)).astype(np.uint8)
    bad, where = scratched(whole)
    repair = repair_scratches(bad)
    there = where & (repair.mask > 0.99)
    assert there.sum() > 0.7 * where.sum()
    blue, red = (repair.pixels[there][:, channel].astype(float) for channel in (2, 0))
    assert np.abs(blue - 0.66 * red).mean() < 3


def test_tiles_do_not_show(print_: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, _ = scratched(print_)
    whole = repair_scratches(bad)
    monkeypatch.setattr(area, "_TILE", 208)
    done: list[tuple[int, int]] = []
    tiled = repair_scratches(bad, lambda *step: done.append(step))
    assert done == [*((n, 18) for n in range(10)), *((n, 8) for n in range(4, 9))]  # 9 tiles, and 4 at half the size
    assert np.abs(tiled.mask - whole.mask).mean() < 1e-4
    assert np.abs(tiled.pixels.astype(int) - whole.pixels).mean() < 0.01


def test_a_large_scan_is_repaired_at_its_own_size(print_: np.ndarray) -> None:
    bad, where = scratched(print_)
    bad, large, there = (
        cv2.resize(x, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC) for x in (bad, print_, where.astype(np.float32))
    )
    repair = repair_scratches(bad)
    assert repair.pixels.shape == large.shape
    assert error(repair.pixels, large, there > 0.5) < 0.5 * error(bad, large, there > 0.5)


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 33, 3), (65, 16, 3)])
def test_any_size_is_repaired(shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    repair = repair_scratches(pixels)
    assert repair.pixels.shape == shape
    assert repair.mask.shape == shape[:2]


def test_it_can_be_stopped_and_refuses_what_is_no_photo(print_: np.ndarray) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repair_scratches(print_, stop)
    with pytest.raises(ImageError, match="uint8 or uint16"):
        repair_scratches(print_.astype(np.float32))
