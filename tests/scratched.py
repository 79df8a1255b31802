"""A damaged print, and what it shows."""

from __future__ import annotations

import cv2
import numpy as np


def as_print(photo: np.ndarray) -> np.ndarray:
    """A photo in black and white, a little soft."""
    gray = cv2.GaussianBlur(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), (0, 0), 1)
    return np.repeat(gray[..., None], 3, 2)


def scratched(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A photo with jagged white lines of 3 pixels across, and where they are [H, W] bool."""
    rng, (height, width) = np.random.default_rng(0), photo.shape[:2]
    where = np.zeros((height, width), np.uint8)
    for y in rng.uniform(0.2, 0.8, 3) * height:
        line = np.stack([np.linspace(0, width, 60), y + np.cumsum(rng.normal(0, 4, 60))], 1)
        cv2.polylines(where, [line.astype(np.int32)], False, 1, 3)
    bad = photo.copy()
    bad[where > 0] = 0.92 * np.iinfo(photo.dtype).max
    return bad, where > 0


def error(made: np.ndarray, true: np.ndarray, where: np.ndarray) -> float:
    """The mean absolute difference there."""
    return float(np.abs(made.astype(float) - true)[where].mean())
