"""A photo with its faces framed and numbered: which is which for `positions`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from PIL import Image

from ..types import Face
from .canvas import BLUE, INK, PAPER, SOFT, Array, Canvas, text_width

_LEAST = 1024  # pixels, the drawing's longest side: its letters need some
_LETTERS = 0.05  # a number's size over the longest side: readable in a preview a quarter of that
_FEWER, _OF_FACE = 0.012, 0.6  # in a crowd: the same at least, and over the median face
_SMALL = 0.62  # a confidence's size over a number's
_PAD = 0.3  # around a number, over its size


def draw_numbered(pixels: Array, faces: Sequence[Face], chosen: Collection[int], scale: float = 1.0) -> Array:
    """Frame the faces in a photo [H, W, 3], numbered in their order; those not `chosen` are gray.

    `scale` is the photo's size over that in which the faces were found. Returns uint8 [h, w, 3] of the same shape, up
    to rounding: a photo whose longest side is below 1024 pixels is enlarged to that.
    """
    height, width = pixels.shape[:2]
    side = max(height, width, _LEAST)
    enlarged = side / max(height, width)
    size = (max(1, round(width * enlarged)), max(1, round(height * enlarged)))
    canvas = Canvas(*size, np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)))
    scale *= enlarged
    usual = float(np.median([face.size for face in faces])) if faces else 0.0
    letters = min(max(_OF_FACE * usual * scale, _FEWER * side), _LETTERS * side)
    for number in sorted(range(len(faces)), key=lambda number: number in chosen):  # the chosen ones on top
        _draw_face(canvas, faces[number], number, scale, letters, BLUE if number in chosen else SOFT)
    return canvas.finish()


def _draw_face(canvas: Canvas, face: Face, number: int, scale: float, letters: float, color: str) -> None:
    x, y, wide, tall = (value * scale for value in face.box)
    left, top = max(x, 0.0), max(y, 0.0)
    right, bottom = min(x + wide, canvas.width), min(y + tall, canvas.height)
    line = max(1.5, letters / 9)
    for ink, thickness in ((PAPER, 2 * line), (color, line)):  # a pale edge, for dark photos
        canvas.line([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], ink, thickness)
    beside = left + _draw_label(canvas, left, top, str(number), letters, letters, color)
    sure = f"{face.score:.2f}"
    if beside + text_width(sure, _SMALL * letters) + 2 * _PAD * letters <= right:
        _draw_label(canvas, beside, top, sure, _SMALL * letters, letters, PAPER)


def _draw_label(
    canvas: Canvas, left: float, bottom: float, text: str, letters: float, room: float, ground: str
) -> float:
    """A line of text on a ground as high as letters of size `room` need, above `bottom`, or below it where the image
    ends; returns the ground's width.
    """
    pad, tall = _PAD * room, (1 + _PAD) * room
    wide = text_width(text, letters) + 2 * pad
    left, top = min(left, canvas.width - wide), bottom - tall if bottom >= tall else bottom
    canvas.box(left, top, left + wide, top + tall, ground)
    canvas.text(left + wide / 2, top + tall / 2, text, letters, "mm", INK if ground == PAPER else PAPER)
    return wide
