"""What other restorers might return: a restored face made worse, better, or unrelated to its input.

They teach the blend network (blend.py) what its own restorers do not show it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
"""[H, W, 3] in 0 to 1."""


@dataclass(frozen=True)
class Faces:
    """One face in three states, and another one."""

    degraded: Image
    restored: Image
    clean: Image
    stranger: Image  # another face, restored


def unchanged(faces: Faces, rng: np.random.Generator) -> Image:
    return faces.restored


def smoothed(faces: Faces, rng: np.random.Generator) -> Image:
    return cv2.GaussianBlur(faces.restored, (0, 0), rng.uniform(0.5, 2.5))


def sharpened(faces: Faces, rng: np.random.Generator) -> Image:
    amount = rng.uniform(0.3, 2.0)
    return faces.restored + amount * (faces.restored - cv2.GaussianBlur(faces.restored, (0, 0), rng.uniform(0.7, 2)))


def shifted(faces: Faces, rng: np.random.Generator) -> Image:
    """Moved by up to three pixels."""
    shift = np.array([[1, 0, rng.uniform(-3, 3)], [0, 1, rng.uniform(-3, 3)]])
    return cv2.warpAffine(faces.restored, shift, faces.restored.shape[1::-1], borderMode=cv2.BORDER_REFLECT_101)


def recoloured(faces: Faces, rng: np.random.Generator) -> Image:
    return faces.restored * rng.uniform(0.85, 1.15, 3).astype(np.float32) + rng.uniform(-0.04, 0.04)


def improved(faces: Faces, rng: np.random.Generator) -> Image:
    """Part of the way to the clean face."""
    return faces.restored + rng.uniform(0.1, 1.0) * (faces.clean - faces.restored)


def another_face(faces: Faces, rng: np.random.Generator) -> Image:
    return faces.stranger


def noise(faces: Faces, rng: np.random.Generator) -> Image:
    """Smooth noise that shows no face."""
    drawn = rng.normal(rng.uniform(0.2, 0.8), rng.uniform(0, 0.3), faces.restored.shape)
    return cv2.GaussianBlur(drawn.astype(np.float32), (0, 0), rng.uniform(0.3, 4))


def of_random_weights(faces: Faces, rng: np.random.Generator) -> Image:
    """Noise over the face, as random weights return once their colours are matched to the input."""
    drawn = rng.normal(0, 1, faces.restored.shape).astype(np.float32)
    blurred = cv2.GaussianBlur(drawn, (0, 0), rng.uniform(0.6, 6))
    under = rng.choice([faces.degraded, faces.restored])
    return under + rng.uniform(0.03, 0.3) * blurred / max(float(blurred.std()), 1e-6)


Alteration = Callable[[Faces, np.random.Generator], Image]
ALTERATIONS: dict[Alteration, float] = {
    unchanged: 0.45,
    smoothed: 0.08,
    sharpened: 0.08,
    shifted: 0.04,
    recoloured: 0.04,
    improved: 0.11,
    another_face: 0.04,
    noise: 0.04,
    of_random_weights: 0.12,
}
"""Every alteration's probability."""
NONSENSE = (another_face, noise, of_random_weights)
"""What has nothing to do with the input."""


def altered(faces: Faces, nonsense: bool, rng: np.random.Generator) -> Image:
    """A restored face as another restorer might return it; without `nonsense`, that is left unchanged too."""
    kind = list(ALTERATIONS)[rng.choice(len(ALTERATIONS), p=list(ALTERATIONS.values()))]
    return faces.restored if kind in NONSENSE and not nonsense else kind(faces, rng)
