"""The bundled portrait, a clip made from it, and calibration images made from it, for users who have none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from .types import Face

if TYPE_CHECKING:
    from torch import Tensor

_ASSETS = Path(__file__).parent / "assets"
DEMO_PHOTO = _ASSETS / "astronaut.jpg"
DEMO_PRINT = _ASSETS / "old_print.jpg"  # the same portrait in sepia, with cracks and scratches
DEMO_CLIP = _ASSETS / "astronaut.mp4"  # 16 frames made from it, 384x384


def demo_faces() -> list[Face]:
    """The faces in `DEMO_PHOTO`, in its pixel coordinates; stored, so that no detector is needed."""
    return [
        Face(tuple(face["box"]), tuple(map(tuple, face["landmarks"])), face["score"])
        for face in json.loads((_ASSETS / "astronaut.json").read_text("utf-8"))
    ]


def bundled_faces(count: int, size: int) -> Tensor:
    """The bundled portrait's aligned crop, degraded with `count` seeds: [count, 3, size, size] float32 in [-1, 1]."""
    import numpy as np

    from .degrade import degrade
    from .faces.align import extract, face_transform
    from .faces.aligned import as_batch
    from .io.photos import read_photo

    crop = extract(read_photo(DEMO_PHOTO).pixels, face_transform(demo_faces()[0], size), size)
    pixels = np.rint(np.clip(crop, 0, 1) * 255).astype(np.uint8)
    return as_batch([degrade(pixels, seed) for seed in range(count)])
