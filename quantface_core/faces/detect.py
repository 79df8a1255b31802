"""Detect faces and their five landmarks with YuNet in OpenCV."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..bit_depth import check_pixels
from ..errors import ImageError
from ..types import Face, Pixels
from .align import (
    Landmarks,
    Matrix,
    compose,
    face_transform,
    footprint,
    invert,
    magnification,
    resizing,
    shift,
    template_distance,
    warp,
)
from .boxes import Box, box_of_landmarks, face_in_box
from .duplicates import DOUBTFUL_SCORE, merge, new_faces, without_doubtful_parts
from .enhance import contrast_stretched, descreened
from .yunet import YuNet

# YuNet detects faces of about 10 to 300 pixels. A photo is first searched at about this many pixels, for the faces of a
# crowd, then at smaller and smaller scales until its longest side is at most _LEAST_SIDE, for a face that fills it.
_SEARCH_PIXELS, _LEAST_SIDE, _STEP = 2400 * 1800, 320, 2.75
_ENLARGED = 2.0  # largest scale: at it 15-pixel faces are found with confidence
_PIECE = 1 << 24  # pixels of a huge photo that are downscaled at once
# A detection that scores above the first is upright, above the second upright or upside down. Others are also checked
# rotated by eighths of a turn, because YuNet finds tilted and upside-down faces but gives them upright landmarks.
_UPRIGHT_SCORE, _UPRIGHT_OR_NOT_SCORE = 0.93, 0.88
_LOOK_SIZE = 224  # pixels, side of the aligned crop in which a detection is verified
# A true face is detected again in its aligned crop, upright and mirrored, with a score of 0.88 or more and landmarks
# near the template; a false positive is not detected there at all. Measured on the tests' scenes: docs/photos.md.
_CONFIRMED_SCORE, _CONFIRMED_FIT = 0.8, 0.22
# A box is replaced when its refined landmarks are this far from it, over its size, or this many times its size.
_OTHER_PLACE, _OTHER_SIZE = 0.35, 1.5
_UPRIGHT, _UPRIGHT_OR_NOT = (0,), (0, 4)
_ALL_EIGHTHS = tuple(range(8))


def _turn(eighth: int) -> Matrix:
    angle = eighth * np.pi / 4
    cosine, sine = np.cos(angle), np.sin(angle)
    linear = np.array([[cosine, -sine], [sine, cosine]])
    middle = np.full(2, (_LOOK_SIZE - 1) / 2)
    return np.hstack([linear, (middle - linear @ middle)[:, None]])


_TURNS = [_turn(eighth) for eighth in _ALL_EIGHTHS]
_MIRROR = np.array([[-1.0, 0.0, _LOOK_SIZE - 1.0], [0.0, 1.0, 0.0]])
_MIRRORED_LANDMARKS = [1, 0, 2, 4, 3]  # eyes and mouth corners exchange their sides


def _nothing() -> None:
    pass


class FaceDetector:
    """Finds faces of any size and tilt. Threads may share it: they take turns. A copy, in another process too, loads
    the file again."""

    def __init__(
        self, model: str | Path, poll: Callable[[], None] = _nothing, search_pixels: int = _SEARCH_PIXELS
    ) -> None:
        """Load the ONNX file. Raises ModelError when OpenCV cannot.

        `poll` is called before each piece of work, none of which takes long even in a huge photo; an exception it
        raises ends the search. With fewer `search_pixels` the search is faster but misses the smallest faces.
        """
        self._net, self._poll, self._search_pixels = YuNet(Path(model), poll), poll, search_pixels
        self._model = model

    def __reduce__(self) -> tuple[type[FaceDetector], tuple[Any, ...]]:
        return FaceDetector, (self._model, self._poll, self._search_pixels)

    def __call__(self, pixels: Pixels) -> tuple[Face, ...]:
        """All detections in an RGB photo [H, W, 3], uint8 or uint16, highest score first; scores are at least 0.5.

        A score above DOUBTFUL_SCORE is that of the face in its upright aligned crop; detections that are not confirmed
        there score at most DOUBTFUL_SCORE. Raises ImageError for what is no photo.
        """
        check_pixels(pixels)
        scales = self._scales(pixels)
        image, shrunk = self._to_bgr8(pixels, scales[0])
        scales = [scale / shrunk for scale in scales]
        found = self._settled(image, shrunk, self._net.search(image, scales, shrunk))
        # Sideways faces are detected badly or not at all: when there are some, or no face at all, the photo is searched
        # rotated at all scales; otherwise only at the smaller, cheap ones, for someone lying in front of others.
        sure = [face for face in found if face.score > DOUBTFUL_SCORE]
        upright = sure and not any(_is_sideways(face) for face in sure)
        chosen = scales[1:] if upright else scales
        turned = [find for quarter in (1, 3) for find in self._search_turned(image, chosen, shrunk, quarter)]
        found = (*found, *self._settled(image, shrunk, new_faces(turned, sure)))
        for altered in (descreened, contrast_stretched):
            if any(face.score > DOUBTFUL_SCORE for face in found):
                break
            other = altered(image)
            if other is not image:
                found = (*found, *self._settled(other, shrunk, self._net.search(other, scales, shrunk)))
        return without_doubtful_parts(merge(found))

    def within(self, pixels: Pixels, boxes: Sequence[Box]) -> tuple[Face, ...]:
        """The faces that fill boxes given by hand, in the order of the boxes, all with score 1.

        Landmarks are detected in each box; where none are found, an upright face is assumed. Raises UsageError for an
        invalid box, ImageError for what is no photo.
        """
        check_pixels(pixels)
        guesses = [face_in_box(box) for box in boxes]
        image, shrunk = self._to_bgr8(pixels, self._scales(pixels)[0])
        # Score 0, so that all rotations are tried, for tilted faces.
        settled = [self._settle(image, shrunk, replace(guess, score=0.0)) for guess in guesses]
        return tuple(replace(s, box=g.box, score=1.0) for s, g in zip(settled, guesses, strict=True))

    def _scales(self, pixels: Pixels) -> list[float]:
        """The scales at which a photo is searched, largest first."""
        height, width = pixels.shape[:2]
        scales = [min(_ENLARGED, (self._search_pixels / (height * width)) ** 0.5)]
        while max(height, width) * scales[-1] > _LEAST_SIDE:
            scales.append(scales[-1] / _STEP)
        return scales

    def _to_bgr8(self, pixels: Pixels, scale: float) -> tuple[NDArray[np.uint8], float]:
        """(8-bit BGR image, its scale); if `scale` is below 1, downscaled before conversion, as photos can be huge."""
        height, width = pixels.shape[:2]
        if scale < 1:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            pixels = np.concatenate([*self._shrunk(pixels, *size)])
        if pixels.dtype == np.uint16:  # not `to_8_bits`: scores were measured without rounding
            pixels = (pixels >> 8).astype(np.uint8)
        return np.ascontiguousarray(pixels[:, :, ::-1]), max(pixels.shape[:2]) / max(height, width)

    def _shrunk(self, pixels: Pixels, width: int, height: int) -> Iterator[Pixels]:
        """The downscaled photo, strip by strip, cut at whole pixels, so that edges are off by less than one."""
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
        """Align by the landmarks, detect again in the crop, and repeat until they converge; tilted faces need it.

        Every other crop is mirrored, and the landmarks move half way to each one's: the detector's errors cancel
        instead of adding up. The result has the score of the last, if that and the one before confirm the face.
        """
        sure = face.score >= _UPRIGHT_OR_NOT_SCORE
        eighths = _UPRIGHT if face.score >= _UPRIGHT_SCORE else _UPRIGHT_OR_NOT if sure else _ALL_EIGHTHS
        share, scores = 1.0, [1.0]  # the first look may turn the face: its landmarks count in full
        for mirrored in (False, True, False, True):
            looks = [look for eighth in eighths if (look := self._look_again(image, scale, face, eighth, mirrored))]
            if not looks:
                scores.append(0.0)
                break
            best = max(looks, key=lambda look: look.score)
            step = np.subtract(best.landmarks, face.landmarks) * share
            face = replace(face, landmarks=_as_landmarks(face.landmarks + step))
            eighths, share = _UPRIGHT, 0.5
            scores.append(best.score)
            if np.abs(step).max() < 0.02 * max(face.size, 1.0):
                break
        if min(scores[-2:]) < _CONFIRMED_SCORE or template_distance(face.landmarks) > _CONFIRMED_FIT:
            return replace(face, score=min(face.score, DOUBTFUL_SCORE))
        return replace(face, score=scores[-1], box=_fitting_box(face))

    def _look_again(
        self, image: NDArray[np.uint8], scale: float, face: Face, eighth: int, mirrored: bool
    ) -> Face | None:
        """Detect in the aligned crop, rotated by `eighth` / 8 of a turn; returns landmarks in the photo's pixels."""
        try:
            to_crop = compose(_TURNS[eighth], face_transform(face, _LOOK_SIZE))
        except ImageError:  # degenerate landmarks
            return None
        if mirrored:
            to_crop = compose(_MIRROR, to_crop)
        back = invert(to_crop)
        crop = contrast_stretched(_cut(image, compose(to_crop, resizing(1, 1, 1 / scale, 1 / scale))))
        middle = (_LOOK_SIZE - 1) / 2
        for look in merge(self._net.search(crop, [1.0], 1.0)):
            left, top, width, height = look.box
            if max(abs(left + width / 2 - middle), abs(top + height / 2 - middle)) < _LOOK_SIZE / 4:
                points = np.array(look.landmarks) @ back[:, :2].T + back[:, 2]
                return replace(look, landmarks=_as_landmarks(points[_MIRRORED_LANDMARKS] if mirrored else points))
        return None

    def _search_turned(
        self, image: NDArray[np.uint8], scales: Sequence[float], already: float, quarter: int
    ) -> list[Face]:
        """Detections in the photo rotated by `quarter` quarter turns anticlockwise, in the photo's pixels."""
        height, width = (side / already for side in image.shape[:2])
        finds = self._net.search(np.ascontiguousarray(np.rot90(image, quarter)), scales, already)
        return [_turned_back(find, width, height, quarter) for find in finds]


def _as_landmarks(points: NDArray[np.float64]) -> Landmarks:
    return tuple((float(x), float(y)) for x, y in points)


def _cut(image: NDArray[np.uint8], matrix: Matrix) -> NDArray[Any]:
    """The aligned crop [S, S, 3] of a face, resampled from only the part of a large photo that it needs."""
    height, width = image.shape[:2]
    area = footprint(invert(matrix), _LOOK_SIZE, width, height, 8 + round(2 / max(magnification(matrix), 1e-3)))
    if area.is_empty:
        return np.zeros((_LOOK_SIZE, _LOOK_SIZE, 3), np.uint8)
    place = compose(matrix, shift(area.left, area.top))
    return warp(image[area.pixels], place, _LOOK_SIZE, _LOOK_SIZE, cv2.BORDER_REPLICATE)


def _turned_back(face: Face, width: float, height: float, quarter: int) -> Face:
    """Map a detection in a photo rotated by 1 or 3 quarter turns anticlockwise to the photo, of width and height."""

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
    """The detection's box, or, if its refined landmarks have another size or place, the box that fits them."""
    box = box_of_landmarks(face.landmarks)
    ratio = (box[2] * box[3]) ** 0.5 / max(face.size, 1e-6)
    apart = [a + b / 2 - c - d / 2 for a, b, c, d in zip(box[:2], box[2:], face.box[:2], face.box[2:], strict=True)]
    fits = 1 / _OTHER_SIZE < ratio < _OTHER_SIZE and math.hypot(*apart) < _OTHER_PLACE * face.size
    return face.box if fits else box
