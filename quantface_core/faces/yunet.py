"""The YuNet face detector in OpenCV, run on an image at several scales, in tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..types import Face
from . import onnx

_LOWEST_SCORE = 0.5
_TILE, _TILE_OVERLAP = 2400, 320  # pixels: side of a tile passed to the network, and overlap of tiles


class YuNet:
    """The network, loaded once. Threads may share it: they take turns."""

    def __init__(self, model: Path, poll: Callable[[], None]) -> None:
        """Load the ONNX file; `poll` is called before each tile. Raises ModelError when OpenCV cannot."""
        self._poll, self._lock = poll, Lock()
        try:
            with onnx.quiet:
                self._net = onnx.load(cv2.FaceDetectorYN.create, model, (320, 320), _LOWEST_SCORE, 0.4, 5000)
        except cv2.error as error:
            raise ModelError(f"{model} is not a face detector that OpenCV can load: {error.err}") from error

    def search(self, image: NDArray[Any], scales: Sequence[float], already: float = 1.0) -> list[Face]:
        """Detections in a BGR image [H, W, 3] uint8 at several scales, with scores of at least 0.5.

        Faces are in the pixels of the photo that the image was scaled from by `already`.
        """
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
        with self._lock, onnx.quiet:
            self._net.setInputSize(tile.shape[1::-1])
            rows = self._net.detect(tile)[1]
        found = []
        for row in rows if rows is not None else ():
            places = row[:14].reshape(7, 2).astype(np.float64)
            places[[0, *range(2, 7)]] += corner  # all but the box's width and height
            found.append(_face((places / factor).ravel(), float(row[14])))
        return found


def _starts(length: int) -> list[int]:
    """Start positions of tiles of _TILE pixels that cover a length and overlap by at least _TILE_OVERLAP."""
    if length <= _TILE:
        return [0]
    count = -(-(length - _TILE_OVERLAP) // (_TILE - _TILE_OVERLAP))
    return [round(i * (length - _TILE) / (count - 1)) for i in range(count)]


def _face(values: NDArray[np.float64], score: float) -> Face:
    left, top, width, height = (float(v) for v in values[:4])
    points = tuple((float(x), float(y)) for x, y in values[4:14].reshape(5, 2))
    return Face((left, top, width, height), points, min(score, 1.0))
