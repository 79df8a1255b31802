"""What a step before the restorer gains: PSNR of faces restored with it and without."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

import numpy as np
from do_no_harm import Face

from quantface_core import RestoreOptions, restore_aligned
from quantface_core.faces.paste import face_mask
from quantface_core.restorer import Restorer
from quantface_core.types import Pixels

COLUMNS = ["input", "auto, as they are", "auto", "1, as they are", "1"]


def row(pairs: Iterable[tuple[Face, Face]], restorer: Restorer, step: str, left_out: Callable[..., Any]) -> list[float]:
    """Mean PSNR of the columns over (damaged, clean) faces; `left_out` replaces the step, a name in stages/restore."""
    found = []
    for bad, clean in pairs:
        values = [psnr(bad, clean)]
        for strength in ("auto", 1.0):
            for without in (True, False):
                with patch(f"quantface_core.stages.restore.{step}", left_out) if without else nullcontext():
                    made = restore_aligned(bad, restorer, RestoreOptions(strength=strength)).pixels
                values.append(psnr(made, clean))
        found.append(values)
    return [float(value) for value in np.mean(found, axis=0)]


def psnr(a: Pixels, b: Pixels) -> float:
    """PSNR in dB within the face."""
    difference = (a.astype(np.float32) - b)[face_mask(len(a)) > 0.5]
    return float(10 * np.log10(255**2 / max(np.square(difference).mean(), 1e-9)))
