"""Alignment: affine maps between a photo and the restorer's square crop, from a face's five landmarks."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..bit_depth import in_shares
from ..errors import ImageError
from ..types import Face, Pixels
from .area import Area

Matrix = NDArray[np.float64]
"""A 2x3 affine map of pixel coordinates, [x', y'] = M [x, y, 1]."""

Landmarks = tuple[tuple[float, float], ...]

_VIEW = 256  # pixels; any size will do to decide what is in view: a crop's corners do not depend on it
_LEAST_FIT = 1e-9  # share of the target's variance that a similarity of the source must explain: less is rounding error
_WHOLE = 1 << 24  # pixels of a crop's area up to which it is converted to float32 whole: a larger one takes gigabytes
# Of the blur past a photo's border, in shares of the crop's side: its sigma, and how far past the border it is in full.
# It spares the face, an ellipse: centre, radii, and the multiple of these from which the blur is in full.
_BLUR, _PAST = 3 / 128, 1 / 8
_CENTRE, _RADII, _AROUND = (0.5, 0.53), (0.27, 0.40), 1.4

# Landmarks of FFHQ-aligned portraits, in shares of the crop's side: the convention of face restorers, and within
# 0.5 % of the mean over the faces that quantface-mini was trained on.
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
    """Least-squares rotation, uniform scale and translation from source to target points, both [N, 2] (Umeyama).

    Raises ImageError when the source points coincide, are not finite, or resemble the target at no scale.
    """
    source, target = np.asarray(source, float), np.asarray(target, float)
    a, b = source - source.mean(0), target - target.mean(0)
    spread = (a**2).sum()
    if not np.isfinite(spread) or spread < 1e-9:
        raise ImageError("a face's landmarks coincide or are not finite, so it cannot be aligned")
    # In two dimensions rotation and scale are one complex factor, whose least-squares value is a projection.
    real = (a * b).sum() / spread
    imaginary = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / spread
    if abs(complex(real, imaginary)) ** 2 * spread < _LEAST_FIT * (b**2).sum():
        raise ImageError("a face's landmarks are not those of a face, so it cannot be aligned")
    linear = np.array([[real, -imaginary], [imaginary, real]])
    return np.hstack([linear, (target.mean(0) - linear @ source.mean(0))[:, None]])


def face_transform(face: Face, size: int) -> Matrix:
    """The map from the photo's pixels to a square crop of `size` pixels. Raises ImageError for degenerate landmarks."""
    # Template coordinates start at the square's edge, pixel centres half a pixel inside it.
    return similarity(np.array(face.landmarks), FFHQ_TEMPLATE * size - 0.5)


def is_in_view(face: Face, width: int, height: int) -> bool:
    """Whether the crop of a face would contain any pixel of an image of this size; False if it cannot be aligned."""
    try:
        transform = face_transform(face, _VIEW)
    except ImageError:
        return False
    return not footprint(invert(transform), _VIEW, width, height).is_empty


def template_distance(landmarks: Landmarks) -> float:
    """RMS distance of aligned landmarks from the template, over its eye distance; 0 = they match. Raises ImageError."""
    points = np.array(landmarks)
    matrix = similarity(points, FFHQ_TEMPLATE)
    apart = points @ matrix[:, :2].T + matrix[:, 2] - FFHQ_TEMPLATE
    return float(np.sqrt((apart**2).sum(1).mean()) / (FFHQ_TEMPLATE[1, 0] - FFHQ_TEMPLATE[0, 0]))


def whole_transform(width: int, height: int, size: int) -> Matrix:
    """The map that stretches a whole image onto the crop, for images that are aligned faces."""
    return compose(_scaling(size / width, size / height), np.eye(2, 3))


def compose(outer: Matrix, inner: Matrix) -> Matrix:
    """The map that applies `inner` first, then `outer`."""
    return outer[:, :2] @ inner + np.hstack([np.zeros((2, 2)), outer[:, 2:]])


def invert(matrix: Matrix) -> Matrix:
    """The inverse of a map, which must not be singular."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.hstack([linear, -linear @ matrix[:, 2:]])


def resizing(width: float, height: float, new_width: float, new_height: float) -> Matrix:
    """The map from a photo's pixels to those of the same photo at another size."""
    return _scaling(new_width / width, new_height / height)


def _scaling(x: float, y: float) -> Matrix:
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2]], dtype=float)


def magnification(matrix: Matrix) -> float:
    """The factor by which a map scales lengths (the square root of areas)."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def shift(x: float, y: float) -> Matrix:
    """The map that translates by x, y pixels."""
    return np.array([[1, 0, x], [0, 1, y]], dtype=float)


def footprint(matrix: Matrix, size: int, width: int, height: int, margin: int = 0) -> Area:
    """The bounding box of a square of `size` mapped by `matrix`, grown by `margin` and clipped to the image, in pixels.

    Empty when it lies wholly outside.
    """
    corners = np.array([[-0.5, -0.5], [size - 0.5, -0.5], [-0.5, size - 0.5], [size - 0.5, size - 0.5]])
    mapped = corners @ matrix[:, :2].T + matrix[:, 2]
    low, high = np.floor(mapped.min(0) + 0.5) - margin, np.ceil(mapped.max(0) + 0.5) + margin
    left, top = np.clip(low, 0, [width, height]).astype(int)
    right, bottom = np.clip(high, 0, [width, height]).astype(int)
    return Area(int(left), int(top), int(right), int(bottom))


def warp(image: NDArray[Any], matrix: Matrix, width: int, height: int, border: int) -> NDArray[Any]:
    """Resample an image [H, W, ...] through `matrix` (source to target pixels) to [height, width, ...].

    Cubic interpolation, without aliasing when it shrinks; `border` is OpenCV's border mode.
    """
    scale = magnification(matrix)
    if scale < 0.8:  # the cubic kernel covers 4 pixels: below this scale it would skip some
        shrink = scale * 1.25
        size = [max(1, round(side * shrink)) for side in (image.shape[1], image.shape[0])]
        matrix = compose(matrix, invert(_scaling(size[0] / image.shape[1], size[1] / image.shape[0])))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    if min(image.shape[:2]) == 1:  # mirroring a side of one pixel sends OpenCV into an endless loop
        border = cv2.BORDER_REPLICATE if border == cv2.BORDER_REFLECT_101 else border
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=border)


def warp_into(area: Area, image: NDArray[Any], matrix: Matrix, border: int) -> NDArray[Any]:
    """The area, [height, width, ...], of an image warped by `matrix`; see `warp`."""
    return warp(image, compose(shift(-area.left, -area.top), matrix), *area.size, border)


def extract(pixels: Pixels, matrix: Matrix, size: int) -> NDArray[np.float32]:
    """Extract the aligned crop of a face: [H, W, 3] -> [size, size, 3] float32 in 0 to 1.

    Past the border it is mirrored, which completes half a face, and blurred away around the face. Raises ImageError
    when the face lies wholly outside the photo.
    """
    height, width = pixels.shape[:2]
    scale = magnification(matrix)
    margin = int(np.ceil(4 / min(scale, 1.0)))
    area = footprint(invert(matrix), size, width, height, margin)
    if area.is_empty:
        raise ImageError("a face lies wholly outside the photo")
    region = pixels[area.pixels]
    parts = [region] if area.size[0] * area.size[1] <= _WHOLE else np.moveaxis(region, 2, 0)  # or by channel
    place = compose(matrix, shift(area.left, area.top))
    crop = np.dstack([warp(in_shares(part), place, size, size, cv2.BORDER_REFLECT_101) for part in parts])
    return _without_copies(np.clip(crop, 0, 1), matrix, width, height)


def _without_copies(crop: NDArray[np.float32], matrix: Matrix, width: int, height: int) -> NDArray[np.float32]:
    """A crop whose mirrored part, past the border of a photo of this size, is blurred around the face.

    Otherwise copies of its eyes and mouth would surround a face that fills its photo, as in no portrait that restorers
    and the blend network know: they would smooth it, however sharp it is.
    """
    size, inverse = len(crop), invert(matrix)
    at = np.arange(size)
    x, y = (across * at + down * at[:, None] + start for across, down, start in inverse)
    past = np.maximum.reduce([-0.5 - x, x - (width - 0.5), -0.5 - y, y - (height - 0.5)]) * magnification(matrix) / size
    if past.max() <= 0:
        return crop
    (right, down), (wide, tall) = _CENTRE, _RADII
    share = (at + 0.5) / size
    radius = np.hypot((share - right) / wide, (share[:, None] - down) / tall)
    blurring = np.clip(past / _PAST, 0, 1) * np.clip((radius - 1) / (_AROUND - 1), 0, 1)
    blurred = cv2.GaussianBlur(crop, (0, 0), _BLUR * size)
    return crop + blurring[..., None].astype(np.float32) * (blurred - crop)
