"""Find faces and their five landmarks with YuNet through OpenCV."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, ModelError
from ..types import Face, Pixels
from . import onnx
from .align import Matrix, compose, face_transform, footprint, invert, shift, template_distance, warp
from .boxes import Box, box_of_landmarks, face_in_box

# YuNet sees faces of about 10 to 300 pixels. A photo is searched at about this many pixels, for the faces of a crowd,
# then smaller and smaller, until its longest side is at most _LEAST_SIDE, for a face that fills it.
_SEARCH_PIXELS, _LEAST_SIDE, _STEP = 2400 * 1800, 320, 2.75
_ENLARGED = 2.0  # at most: 15-pixel faces become sure ones
_TILE, _TILE_OVERLAP = 2400, 320  # pixels: the sides of what is searched at once
_PIECE = 1 << 24  # pixels of a huge photo that are shrunk at once
_LOWEST_SCORE = 0.5
# A surer find than the first is upright, than the second upright or upside down. Less sure ones are looked at turned
# by eighths, because YuNet finds a tilted or upside-down face but draws upright landmarks into it.
_UPRIGHT_SCORE, _UPRIGHT_OR_NOT_SCORE = 0.93, 0.88
_LOOK_SIZE = 224  # pixels, the side of the aligned crop in which a find is looked at again
# What is a face is found again in its aligned crop, upright, with 0.88 or more and landmarks near the template's; what
# is none is not found there at all. Measured on the photos and scenes of the tests; see docs/photos.md.
_CONFIRMED_SCORE, _CONFIRMED_FIT = 0.8, 0.2
DOUBTFUL_SCORE = 0.6  # at most, of a find that its aligned crop does not confirm
_SAME_PLACE, _SAME_SIZE = 0.35, 1.8  # shares of the smaller one's size up to which two finds are one face
_OTHER_SIZE = 1.5
_UPRIGHT, _UPRIGHT_OR_NOT = (0,), (0, 4)
_ALL_EIGHTHS = tuple(range(8))
_Place = tuple[float, float, float]  # a find's size, and where the middle of its landmarks is


def _turn(eighth: int) -> Matrix:
    angle = eighth * np.pi / 4
    cosine, sine = np.cos(angle), np.sin(angle)
    linear = np.array([[cosine, -sine], [sine, cosine]])
    middle = np.full(2, (_LOOK_SIZE - 1) / 2)
    return np.hstack([linear, (middle - linear @ middle)[:, None]])


_TURNS = [_turn(eighth) for eighth in _ALL_EIGHTHS]


class _QuietOpenCV:
    """OpenCV 5 warns about its target at every input size; that is no news to a user.

    How much it says is one setting of the whole process: the first thread within changes it, the last sets it back.
    """

    def __init__(self) -> None:
        self._logging = getattr(cv2.utils, "logging", None)  # OpenCV 4.8 has none, and does not warn
        self._lock, self._within, self._level = Lock(), 0, 0

    def __enter__(self) -> None:
        with self._lock:
            self._within += 1
            if self._within == 1 and self._logging:
                self._level = self._logging.getLogLevel()
                self._logging.setLogLevel(self._logging.LOG_LEVEL_ERROR)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within and self._logging:
                self._logging.setLogLevel(self._level)


_quiet_opencv = _QuietOpenCV()


class FaceDetector:
    """YuNet, loaded once. Not safe to share between threads."""

    def __init__(
        self, model: Path, poll: Callable[[], None] = lambda: None, search_pixels: int = _SEARCH_PIXELS
    ) -> None:
        """Load the ONNX file. Raises ModelError when OpenCV cannot.

        `poll` is called before each piece of the work, none of which is long however large the photo; what it raises
        ends the search. At fewer `search_pixels` a picture is searched faster, and its smallest faces are missed.
        """
        self._poll, self._search_pixels = poll, search_pixels
        try:
            with _quiet_opencv:
                self._net = onnx.load(cv2.FaceDetectorYN.create, model, (320, 320), _LOWEST_SCORE, 0.4, 5000)
        except cv2.error as error:
            raise ModelError(f"{model} is not a face detector that OpenCV can load: {error.err}") from error

    def __call__(self, pixels: Pixels) -> tuple[Face, ...]:
        """All finds in an RGB photo [H, W, 3], surest first; scores from 0.5 up.

        A score above DOUBTFUL_SCORE is that of the face in its aligned crop, upright; finds that are not
        confirmed there stay at or below it.
        """
        scales = self._scales(pixels)
        image, shrunk = self._to_bgr8(pixels, scales[0])
        scales = [scale / shrunk for scale in scales]
        found = self._settled(image, shrunk, self._search(image, scales, shrunk))
        # Sideways faces are found badly or not at all: where there are some, or nothing, the photo is turned at all
        # scales; else at the smaller ones, which cost little, for someone who lies before others who stand.
        sure = [face for face in found if face.score > DOUBTFUL_SCORE]
        upright = sure and not any(_is_sideways(face) for face in sure)
        chosen = scales[1:] if upright else scales
        turned = [find for quarter in (1, 3) for find in self._search_turned(image, chosen, shrunk, quarter)]
        known = [_place(face) for face in sure]
        new = [find for find in turned if not _is_among(_place(find), known)]
        found = (*found, *self._settled(image, shrunk, new))
        return _without_doubtful_parts(merge(found))

    def within(self, pixels: Pixels, boxes: Sequence[Box]) -> tuple[Face, ...]:
        """The faces that fill boxes given by hand, in their order, all with score 1.

        Landmarks are looked for in each box; where none are found, an upright face is assumed. Raises UsageError.
        """
        guesses = [face_in_box(box) for box in boxes]
        image, shrunk = self._to_bgr8(pixels, self._scales(pixels)[0])
        # Unsure at first, so that tilted faces are looked at from all sides.
        settled = [self._settle(image, shrunk, replace(guess, score=0.0)) for guess in guesses]
        return tuple(replace(s, box=g.box, score=1.0) for s, g in zip(settled, guesses, strict=True))

    def _scales(self, pixels: Pixels) -> list[float]:
        """At which a photo is searched, the largest first."""
        height, width = pixels.shape[:2]
        scales = [min(_ENLARGED, (self._search_pixels / (height * width)) ** 0.5)]
        while max(height, width) * scales[-1] > _LEAST_SIDE:
            scales.append(scales[-1] / _STEP)
        return scales

    def _to_bgr8(self, pixels: Pixels, scale: float) -> tuple[NDArray[np.uint8], float]:
        """8-bit BGR, shrunk if `scale` is below 1 (a huge photo is converted only once small), and by how much."""
        height, width = pixels.shape[:2]
        if scale < 1:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            pixels = np.concatenate([*self._shrunk(pixels, *size)])
        if pixels.dtype == np.uint16:
            pixels = (pixels >> 8).astype(np.uint8)
        return np.ascontiguousarray(pixels[:, :, ::-1]), max(pixels.shape[:2]) / max(height, width)

    def _shrunk(self, pixels: Pixels, width: int, height: int) -> Iterator[Pixels]:
        """The photo at a smaller size, strip by strip; strips meet at whole pixels of it, next to where they should."""
        tall, wide = pixels.shape[:2]
        count = min(height, -(-tall * wide // _PIECE))
        ends = [round(i * height / count) for i in range(count + 1)]
        for top, bottom in pairwise(ends):
            self._poll()
            part = pixels[round(top * tall / height) : round(bottom * tall / height)]
            yield cv2.resize(np.ascontiguousarray(part), (width, bottom - top), interpolation=cv2.INTER_AREA)

    def _settled(self, image: NDArray[np.uint8], scale: float, finds: Sequence[Face]) -> tuple[Face, ...]:
        return merge([self._settle(image, scale, find) for find in merge(finds)])

    def _settle(self, image: NDArray[np.uint8], scale: float, face: Face) -> Face:
        """Align by the landmarks found, look again, and repeat until they stay: tilted faces need it.

        The result's score is the last look's, if that confirms the face.
        """
        sure = face.score >= _UPRIGHT_OR_NOT_SCORE
        eighths = _UPRIGHT if face.score >= _UPRIGHT_SCORE else _UPRIGHT_OR_NOT if sure else _ALL_EIGHTHS
        score = 0.0
        for _ in range(4):
            looks = [look for eighth in eighths if (look := self._look_again(image, scale, face, eighth))]
            if not looks:
                score = 0.0
                break
            best = max(looks, key=lambda look: look.score)
            moved = np.abs(np.subtract(best.landmarks, face.landmarks)).max() / max(face.size, 1.0)
            face, eighths, score = replace(face, landmarks=best.landmarks), _UPRIGHT, best.score
            if moved < 0.02:
                break
        if score < _CONFIRMED_SCORE or template_distance(face.landmarks) > _CONFIRMED_FIT:
            return replace(face, score=min(face.score, DOUBTFUL_SCORE))
        return replace(face, score=score, box=_fitting_box(face))

    def _look_again(self, image: NDArray[np.uint8], scale: float, face: Face, eighth: int) -> Face | None:
        """Detect in the aligned crop, turned by eighths; landmarks come back in the photo's pixels."""
        try:
            to_crop = compose(_TURNS[eighth], face_transform(face, _LOOK_SIZE))
            back = invert(to_crop)
        except (ImageError, np.linalg.LinAlgError):  # landmarks that coincide
            return None
        shrunk = np.array([[1 / scale, 0, (1 / scale - 1) / 2], [0, 1 / scale, (1 / scale - 1) / 2]])
        crop = _cut(image, compose(to_crop, shrunk))
        middle = (_LOOK_SIZE - 1) / 2
        for look in merge(self._search(crop, [1.0], 1.0)):
            left, top, width, height = look.box
            if max(abs(left + width / 2 - middle), abs(top + height / 2 - middle)) < _LOOK_SIZE / 4:
                points = np.array(look.landmarks) @ back[:, :2].T + back[:, 2]
                return replace(look, landmarks=tuple((float(x), float(y)) for x, y in points))
        return None

    def _search_turned(
        self, image: NDArray[np.uint8], scales: Sequence[float], already: float, quarter: int
    ) -> list[Face]:
        """Finds in the photo turned by quarters against the clock, in the photo's pixels."""
        height, width = (side / already for side in image.shape[:2])
        finds = self._search(np.ascontiguousarray(np.rot90(image, quarter)), scales, already)
        return [_turned_back(find, width, height, quarter) for find in finds]

    def _search(self, image: NDArray[Any], scales: Sequence[float], already: float) -> list[Face]:
        """Finds at several scales; coordinates in a photo of which the image is `already` times the size."""
        found: list[Face] = []
        for scale in scales:
            size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
            interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
            resized = image if size == image.shape[1::-1] else cv2.resize(image, size, interpolation=interpolation)
            factor = np.array([size[0] / image.shape[1] * already, size[1] / image.shape[0] * already])
            for top in _starts(size[1]):
                for left in _starts(size[0]):
                    tile = np.ascontiguousarray(resized[top : top + _TILE, left : left + _TILE])
                    found += self._detected(tile, np.array([left, top]), factor)
        return found

    def _detected(self, tile: NDArray[Any], corner: NDArray[Any], factor: NDArray[np.float64]) -> list[Face]:
        self._poll()
        with _quiet_opencv:
            self._net.setInputSize(tile.shape[1::-1])
            rows = self._net.detect(tile)[1]
        found = []
        for row in rows if rows is not None else ():
            places = row[:14].reshape(7, 2).astype(np.float64)
            places[[0, *range(2, 7)]] += corner  # all but width and height
            found.append(_face((places / factor).ravel(), float(row[14])))
        return found


def _starts(length: int) -> list[int]:
    """Where tiles of _TILE begin that cover a length, sharing _TILE_OVERLAP or more."""
    if length <= _TILE:
        return [0]
    count = -(-(length - _TILE_OVERLAP) // (_TILE - _TILE_OVERLAP))
    return [round(i * (length - _TILE) / (count - 1)) for i in range(count)]


def _cut(image: NDArray[np.uint8], matrix: Matrix) -> NDArray[Any]:
    """The square that a face's aligned crop is; from a part of a large photo, which need not be resized whole."""
    height, width = image.shape[:2]
    margin = 8 + round(2 / max(float(np.sqrt(abs(np.linalg.det(matrix[:, :2])))), 1e-3))
    left, top, right, bottom = footprint(invert(matrix), _LOOK_SIZE, width, height, margin)
    if left >= right or top >= bottom:
        return np.zeros((_LOOK_SIZE, _LOOK_SIZE, 3), np.uint8)
    part = image[top:bottom, left:right]
    return warp(part, compose(matrix, shift(left, top)), _LOOK_SIZE, _LOOK_SIZE, cv2.BORDER_REPLICATE)


def _face(values: NDArray[np.float64], score: float) -> Face:
    left, top, width, height = (float(v) for v in values[:4])
    points = tuple((float(x), float(y)) for x, y in values[4:14].reshape(5, 2))
    return Face((left, top, width, height), points, min(score, 1.0))


def _turned_back(face: Face, width: float, height: float, quarter: int) -> Face:
    """A find in a photo turned by 1 or 3 quarters against the clock, in the photo of width and height."""

    def back(x: float, y: float) -> tuple[float, float]:
        return (width - 1 - y, x) if quarter == 1 else (y, height - 1 - x)

    left, top, wide, tall = face.box
    a, b = back(left, top), back(left + wide, top + tall)
    box = (min(a[0], b[0]), min(a[1], b[1]), tall, wide)
    return replace(face, box=box, landmarks=tuple(back(x, y) for x, y in face.landmarks))


def _is_sideways(face: Face) -> bool:
    linear = face_transform(face, 1)[:, :2]
    return bool(abs(linear[1, 0]) > abs(linear[0, 0]) * np.tan(np.pi / 6))


def _fitting_box(face: Face) -> Box:
    """The find's box, unless its landmarks, once settled, are of another size or place: then the one they belong to."""
    box = box_of_landmarks(face.landmarks)
    ratio = (box[2] * box[3]) ** 0.5 / max(face.size, 1e-6)
    apart = [a + b / 2 - c - d / 2 for a, b, c, d in zip(box[:2], box[2:], face.box[:2], face.box[2:], strict=True)]
    fits = 1 / _OTHER_SIZE < ratio < _OTHER_SIZE and math.hypot(*apart) < _SAME_PLACE * face.size
    return face.box if fits else box


def merge(faces: Sequence[Face]) -> tuple[Face, ...]:
    """Keep the surest of every group of finds that are one face, surest first."""
    kept: list[Face] = []
    places: list[_Place] = []
    for face in sorted(faces, key=lambda f: (-f.score, f.box)):
        place = _place(face)
        if not _is_among(place, places):
            kept.append(face)
            places.append(place)
    return tuple(kept)


def _place(face: Face) -> _Place:
    x, y = (sum(values) / len(face.landmarks) for values in zip(*face.landmarks, strict=True))
    return face.size, x, y


def _is_among(place: _Place, others: Sequence[_Place]) -> bool:
    """Whether a find is one of the others: of about their place and size, by its landmarks.

    A child's face before its mother's chin lies within hers, and is another.
    """
    size, x, y = place  # plain numbers: a crowd of a thousand faces is compared a million times
    return any(
        max(size, s) < _SAME_SIZE * min(size, s) and math.hypot(x - a, y - b) < _SAME_PLACE * min(size, s)
        for s, a, b in others
    )


def _without_doubtful_parts(faces: Sequence[Face]) -> tuple[Face, ...]:
    """Without doubtful finds that are mostly part of a face: an eye, a collar, a beard."""
    sure = [face for face in faces if face.score > DOUBTFUL_SCORE]
    return tuple(f for f in faces if f.score > DOUBTFUL_SCORE or all(_overlap(f, other) < 0.5 for other in sure))


def _overlap(a: Face, b: Face) -> float:
    """Shared area over the smaller box's area, 0 to 1."""
    width = min(a.box[0] + a.box[2], b.box[0] + b.box[2]) - max(a.box[0], b.box[0])
    height = min(a.box[1] + a.box[3], b.box[1] + b.box[3]) - max(a.box[1], b.box[1])
    smaller = min(a.box[2] * a.box[3], b.box[2] * b.box[3])
    return max(width, 0) * max(height, 0) / max(smaller, 1e-6)
