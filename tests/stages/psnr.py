"""How alike two images are."""

from __future__ import annotations

import numpy as np


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of 8-bit images, in dB."""
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))
