"""Move a face between the photo and the restorer's square, by its five landmarks."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..types import Face, Pixels
from .area import Area

Matrix = NDArray[np.float64]
"""A 2x3 affine map of pixel coordinates, [x', y'] = M [x, y, 1]."""

Landmarks = tuple[tuple[float, float], ...]

_VIEW = 256  # pixels of a crop by which a face is in view or not, whatever it is then cut out at

# Where FFHQ-aligned portraits have their landmarks, in shares of the crop's side: the convention of the
# field's restorers, and within 0.5 % of the mean of the faces that quantface-mini was trained on.
FFHQ_TEMPLATE = (
    np.array(
        [
            [192.98138, 239.94708],
            [318.90277, 240.1936],
            [256.63416, 314.01935],
            [201.26117, 371.41043],
            [313.08905, 371.15118],
        ]
    )
    / 512
)


def similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> Matrix:
    """Least-squares rotation, uniform scale and shift from source to target points, both [N, 2] (Umeyama).

    Raises ImageError when the source points coincide or are not finite.
    """
    source, target = np.asarray(source, float), np.asarray(target, float)
    a, b = source - source.mean(0), target - target.mean(0)
    spread = (a**2).sum()
    if not np.isfinite(spread) or spread < 1e-9:
        raise ImageError("a face's landmarks coincide or are not finite, so it cannot be aligned")
    # In two dimensions a similarity is a complex factor: its best value is a projection.
    real = (a * b).sum() / spread
    imaginary = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / spread
    linear = np.array([[real, -imaginary], [imaginary, real]])
    return np.hstack([linear, (target.mean(0) - linear @ source.mean(0))[:, None]])


def face_transform(face: Face, size: int) -> Matrix:
    """The map from the photo's pixels to a crop of `size` pixels a side."""
    # A template coordinate is a place on the square; pixel centres lie half a pixel inside it.
    return similarity(np.array(face.landmarks), FFHQ_TEMPLATE * size - 0.5)


def is_in_view(face: Face, width: int, height: int) -> bool:
    """Whether any of what a crop would hold of a face lies in a picture."""
    return not footprint(invert(face_transform(face, _VIEW)), _VIEW, width, height).is_empty


def template_distance(landmarks: Landmarks) -> float:
    """How far landmarks are from the template once aligned, in shares of its eyes' distance; 0 = a perfect face."""
    points = np.array(landmarks)
    matrix = similarity(points, FFHQ_TEMPLATE)
    apart = points @ matrix[:, :2].T + matrix[:, 2] - FFHQ_TEMPLATE
    return float(np.sqrt((apart**2).sum(1).mean()) / (FFHQ_TEMPLATE[1, 0] - FFHQ_TEMPLATE[0, 0]))


def whole_transform(width: int, height: int, size: int) -> Matrix:
    """The map that stretches a whole picture onto the crop: for pictures that are aligned faces."""
    return compose(_scaling(size / width, size / height), np.eye(2, 3))


def compose(outer: Matrix, inner: Matrix) -> Matrix:
    """First `inner`, then `outer`."""
    return outer[:, :2] @ inner + np.hstack([np.zeros((2, 2)), outer[:, 2:]])


def invert(matrix: Matrix) -> Matrix:
    linear = np.linalg.inv(matrix[:, :2])
    return np.hstack([linear, -linear @ matrix[:, 2:]])


def resizing(width: int, height: int, new_width: int, new_height: int) -> Matrix:
    """The map from a photo's pixels to those of the same photo at another size."""
    return _scaling(new_width / width, new_height / height)


def _scaling(x: float, y: float) -> Matrix:
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2]], dtype=float)


def magnification(matrix: Matrix) -> float:
    """How many times longer lengths become."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def shift(x: float, y: float) -> Matrix:
    """The map that moves a picture by x, y pixels."""
    return np.array([[1, 0, x], [0, 1, y]], dtype=float)


def footprint(matrix: Matrix, size: int, width: int, height: int, margin: int = 0) -> Area:
    """What a square of `size` covers after `matrix`, clipped to the picture; empty when it lies wholly outside."""
    corners = np.array([[-0.5, -0.5], [size - 0.5, -0.5], [-0.5, size - 0.5], [size - 0.5, size - 0.5]])
    mapped = corners @ matrix[:, :2].T + matrix[:, 2]
    low, high = np.floor(mapped.min(0) + 0.5) - margin, np.ceil(mapped.max(0) + 0.5) + margin
    left, top = np.clip(low, 0, [width, height]).astype(int)
    right, bottom = np.clip(high, 0, [width, height]).astype(int)
    return Area(int(left), int(top), int(right), int(bottom))


def warp(image: NDArray[Any], matrix: Matrix, width: int, height: int, border: int) -> NDArray[Any]:
    """Resample an image through `matrix` (source to target pixels) without aliasing when it shrinks."""
    scale = magnification(matrix)
    if scale < 0.8:  # cubic interpolation reads 4 pixels; below this it would skip some
        shrink = scale * 1.25
        size = [max(1, round(side * shrink)) for side in (image.shape[1], image.shape[0])]
        matrix = compose(matrix, invert(_scaling(size[0] / image.shape[1], size[1] / image.shape[0])))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    if min(image.shape[:2]) == 1:  # has nothing to mirror, which OpenCV would look for without end
        border = cv2.BORDER_REPLICATE if border == cv2.BORDER_REFLECT_101 else border
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=border)


def warp_into(area: Area, image: NDArray[Any], matrix: Matrix, border: int) -> NDArray[Any]:
    """An area of what an image is after `matrix`, [height, width, ...]."""
    return warp(image, compose(shift(-area.left, -area.top), matrix), *area.size, border)


def extract(pixels: Pixels, matrix: Matrix, size: int) -> NDArray[np.float32]:
    """Cut a face out of a photo: [H, W, 3] -> [size, size, 3] float32 in 0 to 1, mirrored past the border.

    Raises ImageError when the face lies wholly outside the photo.
    """
    height, width = pixels.shape[:2]
    scale = magnification(matrix)
    margin = int(np.ceil(4 / min(scale, 1.0)))
    area = footprint(invert(matrix), size, width, height, margin)
    if area.is_empty:
        raise ImageError("a face lies wholly outside the photo")
    white, place = np.float32(np.iinfo(pixels.dtype).max), compose(matrix, shift(area.left, area.top))
    # One channel after the other: a large photo in float takes gigabytes.
    channels = (np.divide(pixels[(*area.pixels, i)], white, dtype=np.float32) for i in range(3))
    crop = np.stack([warp(channel, place, size, size, cv2.BORDER_REFLECT_101) for channel in channels], axis=2)
    return np.clip(crop, 0, 1)
