"""A small film, what finds and restores its faces, and requests to restore it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from quantface_core.faces.boxes import face_in_box
from quantface_core.io.video import FilmReader
from quantface_core.options import RestoreOptions
from quantface_core.pipelines import film
from quantface_core.pipelines.callbacks import PipelineCallbacks, StageProgress
from quantface_core.pipelines.film_request import FilmRequest
from quantface_core.pipelines.models import Execution
from quantface_core.types import Face, Pixels
from tests.stages.flicker import Flicker

COUNT = 30
EXECUTION = Execution(Path(__file__), torch.device("cpu"))  # `small` loads no file, but its checksum is taken


def small(patch: pytest.MonkeyPatch) -> None:
    """Parts of few frames, and a restorer that is there at once."""
    patch.setattr(film, "PART", 8)
    patch.setattr(film, "load_for", lambda _: Flicker())


def pictures(count: int = COUNT) -> list[np.ndarray]:
    """Blobs that cross a gray wall, under noise; after a cut, one on a lighter wall."""
    draws = np.random.default_rng(0)
    made = []
    for number in range(count):
        late = number >= count * 2 // 3
        picture = np.full((96, 128, 3), 150 if late else 70, np.uint8)
        picture[::8] += 20 if late else 0
        picture[:, ::8] += 0 if late else 20
        cv2.ellipse(picture, (30 + 3 * (number % 20), 48), (14, 20), 0, 0, 360, (230, 120, 100), -1)
        made.append(np.clip(picture + draws.normal(0, 2, picture.shape), 0, 255).astype(np.uint8))
    return made


class Blobs:
    """Finds reddish blobs, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, pixels: Pixels) -> Sequence[Face]:
        self.asked += 1
        red = (pixels[..., 0].astype(int) - pixels[..., 1] > 60).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(red)
        boxes = [stats[i] for i in range(1, count) if stats[i][4] > 200]
        return [replace(face_in_box(tuple(float(v) for v in box[:4])), score=0.9) for box in boxes]


def request(source: Path, output: Path, **more: Any) -> FilmRequest:
    options = {"options": RestoreOptions(strength=1.0, color="none"), "detector": Blobs(), "smoothing": 1.0, **more}
    return FilmRequest(source, output, **{"execution": EXECUTION, **options})


def stop_after(frames: int) -> PipelineCallbacks:
    def progress(told: StageProgress) -> None:
        if told.done >= frames:
            raise KeyboardInterrupt

    return PipelineCallbacks(progress)


def decoded(path: Path) -> list[np.ndarray]:
    """RGB of 255."""
    return [frame.rgb() / 257 for frame in FilmReader(path).frames()]


def same(a: Path, b: Path) -> bool:
    first, second = list(FilmReader(a).frames()), list(FilmReader(b).frames())
    return len(first) == len(second) and all(
        x.pts == y.pts and all(map(np.array_equal, x.planes, y.planes)) for x, y in zip(first, second, strict=True)
    )
