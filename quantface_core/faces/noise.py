"""White noise in the detail of a face: how much there is, and what a Wiener filter keeps of the detail."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import Plane

_FLATTEST = 10  # percentile of a face's energy of detail that is taken to be noise alone
_GRAIN = (5 / 255, 7 / 255)  # noise, as std: up to the first it is grain and kept, from the second removed


def noise_level(energy: NDArray[Any]) -> float:
    """The standard deviation of noise, from the local mean squares of detail within a face; 0 = negligible."""
    noise = float(np.sqrt(np.percentile(energy, _FLATTEST))) if energy.size else 0.0
    return noise if noise > _GRAIN[0] else 0.0


def wiener_gain(energy: Plane, noise: float, suppression: float) -> Plane:
    """The share of detail to keep, [h, w] in 0 to 1, by its local mean square [h, w] and the noise's std, above 0.

    `suppression` multiplies the noise's variance: 1 = the Wiener filter's optimum; a larger one leaves no specks.
    """
    ramp = min(1.0, (noise - _GRAIN[0]) / (_GRAIN[1] - _GRAIN[0]))
    kept = 1 - ramp * np.minimum(1, suppression * noise**2 / np.maximum(energy, 1e-9))
    return kept.astype(np.float32)
