"""A photo enlarged by other means, as by an upscaling network: whether its faces are the photo's own."""

from __future__ import annotations

import cv2
import numpy as np

from ..faces.noise import ramp
from ..types import Crop, Plane

_SAME = 42.0  # dB at the photo's resolution: interpolation and larger originals reach 47, upscaling networks 38
_GAIN = 2.0  # most that grading changes a channel's contrast
_OVAL, _EDGE = (0.5, 0.58, 0.25, 0.37), 0.2  # center and radii over the crop's side; of the edge, over the radii
_REPLACED = (0.08, 0.2)  # applied strengths up to which none, from which all, of the photo's face replaces the other


def shows_photo(background: Crop, photo: Crop, mask: Plane, pixel: float) -> bool:
    """Whether two crops [S, S, 3] of a face are the same at the resolution of the photo, whose pixels are `pixel` wide.

    An upscaling network invents small faces: they differ in what the photo shows, too. Colours and contrast may differ:
    the background may have been graded.
    """
    coarse, shown = (cv2.GaussianBlur(crop, (0, 0), max(pixel, 0.5)) for crop in (background, photo))
    difference = np.square(coarse - in_grade_of(shown, coarse)).mean(2)
    error = float((difference * mask).sum() / mask.sum())
    return error < 10 ** (-_SAME / 10)


def in_grade_of(crop: Crop, reference: Crop) -> Crop:
    """A crop with the reference's mean and deviation in each channel (AdaIN), as far as grading changes these.

    So a reference without contrast, which shows nothing, stays unlike it.
    """
    gain = np.clip(reference.std((0, 1)) / np.maximum(crop.std((0, 1)), 1e-5), 1 / _GAIN, _GAIN)
    return np.asarray((crop - crop.mean((0, 1))) * gain + reference.mean((0, 1)), np.float32)


def replacement(invented: Crop, restored: Crop, applied_strength: float) -> Crop:
    """The change [S, S, 3] by which the photo's face, restored, takes an invented one's place, in its colours."""
    share = np.float32(replaced_share(applied_strength)) * face_oval(len(invented))
    return share[..., None] * (in_grade_of(restored, invented) - invented)


def face_oval(size: int) -> Plane:
    """An aligned crop's face without hair and outline, [S, S] 0 to 1 with a soft edge: those a network draws well."""
    y, x = (np.mgrid[:size, :size].astype(np.float32) + 0.5) / size
    radius = np.hypot((x - _OVAL[0]) / _OVAL[2], (y - _OVAL[1]) / _OVAL[3])
    inside = np.clip((1 + _EDGE - radius) / (2 * _EDGE), 0, 1)
    return np.asarray(inside * inside * (3 - 2 * inside), np.float32)


def replaced_share(applied_strength: float) -> float:
    """How much of an invented face the photo's restored one replaces, 0 to 1, by how much restoring it gains.

    One that gains next to nothing is sharp in the photo: enlarged, it would be softer than what is around it.
    """
    return ramp(applied_strength, _REPLACED)
