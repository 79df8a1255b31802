"""Find faces and their five landmarks with YuNet through OpenCV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..types import Face, Pixels
from .align import Matrix, compose, face_transform, invert, warp
from .boxes import Box, face_in_box

# Longest sides, in pixels, at which a photo is searched. YuNet sees faces of about 10 to 300 pixels: the
# small sides catch a face that fills a large photo, the large ones the faces of a crowd.
_SEARCH_SIDES = (320, 960, 2400)
# Found at two scales, or nested: the share of the smaller box that overlaps from which two are one face.
_SAME_FACE = 0.5
_LOWEST_SCORE = 0.5
# A surer face than this is upright. Less sure ones are also looked at turned by quarters, because YuNet
# finds a tilted or upside-down face but draws upright landmarks into it.
_UPRIGHT_SCORE = 0.93
_LOOK_SIZE = 224  # pixels, the side of the aligned crop in which a face is looked at again


def _quarter_turn(quarter: int) -> Matrix:
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarter]
    linear = np.array([[cosine, -sine], [sine, cosine]], dtype=float)
    middle = np.full(2, (_LOOK_SIZE - 1) / 2)
    return np.hstack([linear, (middle - linear @ middle)[:, None]])


_QUARTER_TURNS = [_quarter_turn(quarter) for quarter in range(4)]


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """OpenCV 5 warns about its target at every input size; that is no news to a user."""
    logging = getattr(cv2.utils, "logging", None)
    if logging is None:  # OpenCV 4.8, which does not warn
        yield
        return
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        logging.setLogLevel(level)


class FaceDetector:
    """YuNet, loaded once. Not safe to share between threads."""

    def __init__(self, model: Path) -> None:
        """Load the ONNX file. Raises ModelError when OpenCV cannot."""
        try:
            with _quiet_opencv():
                self._net = cv2.FaceDetectorYN.create(str(model), "", (320, 320), _LOWEST_SCORE, 0.3, 5000)
        except cv2.error as error:
            raise ModelError(f"{model} is not a face detector that OpenCV can load: {error.err}") from error

    def __call__(self, pixels: Pixels) -> tuple[Face, ...]:
        """All faces of an RGB photo [H, W, 3], surest first; scores from 0.5 up."""
        height, width = pixels.shape[:2]
        longest = max(height, width)
        sides = [side for side in _SEARCH_SIDES if side < longest * 1.5] or [longest]
        # A small photo is also searched enlarged: 15-pixel faces become sure ones.
        sides.append(min(longest * 2, max(_SEARCH_SIDES)))
        image = _to_bgr8(pixels, limit=max(sides))
        found: list[Face] = []
        for side in sorted(set(sides)):
            found += self._search(image, side / max(image.shape[:2]), max(image.shape[:2]) / longest)
        scale = max(image.shape[:2]) / longest
        return tuple(self._settle(image, scale, face) for face in merge(found))

    def within(self, pixels: Pixels, boxes: Sequence[Box]) -> tuple[Face, ...]:
        """The faces that fill boxes given by hand, in their order, all with score 1.

        Landmarks are looked for in each box; where none are found, an upright face is assumed. Raises UsageError.
        """
        guesses = [face_in_box(box) for box in boxes]
        image = _to_bgr8(pixels, limit=max(_SEARCH_SIDES))
        scale = max(image.shape[:2]) / max(pixels.shape[:2])
        # Unsure at first, so that tilted faces are looked at from all sides.
        return tuple(replace(self._settle(image, scale, replace(g, score=0.0)), score=1.0) for g in guesses)

    def _settle(self, image: NDArray[np.uint8], scale: float, face: Face) -> Face:
        """Align by the landmarks found, look again, and repeat until they stay: tilted faces need it."""
        quarters: Sequence[int] = range(4) if face.score < _UPRIGHT_SCORE else (0,)
        for _ in range(4):
            looks = [look for quarter in quarters if (look := self._look_again(image, scale, face, quarter))]
            if not looks:
                break
            best = max(looks, key=lambda look: look.score)
            moved = np.abs(np.subtract(best.landmarks, face.landmarks)).max() / max(face.size, 1.0)
            face, quarters = replace(face, landmarks=best.landmarks), (0,)
            if moved < 0.02:
                break
        return face

    def _look_again(self, image: NDArray[np.uint8], scale: float, face: Face, quarter: int) -> Face | None:
        """Detect in the aligned crop, turned by quarters; landmarks come back in the photo's pixels."""
        to_crop = compose(_QUARTER_TURNS[quarter], face_transform(face, _LOOK_SIZE))
        shrunk = np.array([[1 / scale, 0, (1 / scale - 1) / 2], [0, 1 / scale, (1 / scale - 1) / 2]])
        crop = warp(image, compose(to_crop, shrunk), _LOOK_SIZE, _LOOK_SIZE, cv2.BORDER_REPLICATE)
        back = invert(to_crop)
        middle = (_LOOK_SIZE - 1) / 2
        for look in merge(self._search(crop, 1.0, 1.0)):
            left, top, width, height = look.box
            if max(abs(left + width / 2 - middle), abs(top + height / 2 - middle)) < _LOOK_SIZE / 4:
                points = np.array(look.landmarks) @ back[:, :2].T + back[:, 2]
                return replace(look, landmarks=tuple((float(x), float(y)) for x, y in points))
        return None

    def _search(self, image: NDArray[Any], scale: float, already: float) -> list[Face]:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        resized = cv2.resize(image, size, interpolation=interpolation)
        with _quiet_opencv():
            self._net.setInputSize(size)
            rows = self._net.detect(resized)[1]
        factor = np.tile([size[0] / image.shape[1] * already, size[1] / image.shape[0] * already], 7)
        return [_face(row[:14] / factor, float(row[14])) for row in (rows if rows is not None else ())]


def _to_bgr8(pixels: Pixels, limit: int) -> NDArray[np.uint8]:
    """8-bit BGR, shrunk so that no side exceeds `limit` pixels (a huge photo is converted only once small)."""
    longest = max(pixels.shape[:2])
    if longest > limit:
        size = [max(1, round(side * limit / longest)) for side in (pixels.shape[1], pixels.shape[0])]
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    return np.ascontiguousarray(pixels[:, :, ::-1])


def _face(values: NDArray[np.float64], score: float) -> Face:
    left, top, width, height = (float(v) for v in values[:4])
    points = tuple((float(x), float(y)) for x, y in values[4:14].reshape(5, 2))
    return Face((left, top, width, height), points, min(score, 1.0))


def merge(faces: Sequence[Face]) -> tuple[Face, ...]:
    """Keep the surest of every group of faces that share a place, surest first."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda f: (-f.score, f.box)):
        if all(_overlap(face, other) < _SAME_FACE for other in kept):
            kept.append(face)
    return tuple(kept)


def _overlap(a: Face, b: Face) -> float:
    """Shared area over the smaller box's area, 0 to 1."""
    width = min(a.box[0] + a.box[2], b.box[0] + b.box[2]) - max(a.box[0], b.box[0])
    height = min(a.box[1] + a.box[3], b.box[1] + b.box[3]) - max(a.box[1], b.box[1])
    smaller = min(a.box[2] * a.box[3], b.box[2] * b.box[3])
    return max(width, 0) * max(height, 0) / max(smaller, 1e-6)
