"""Faces as restorers and the blend network meet them: of any condition and size, cleaned as those of a photo are."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from data import (
    jitter_light,
    nearly_clean,
    one_damage,
    recipe_of,
    sharp_and_noisy,
    slightly_soft,
    small_and_noisy,
    soft_and_noisy,
    tiny,
)

from quantface_core.degrade import Degradation, degrade
from quantface_core.faces.align import extract, invert, whole_transform
from quantface_core.faces.clean import clean_face
from quantface_core.faces.paste import face_mask

_SMALL, _SMALLEST = 0.4, 48  # probability that a face is smaller in the photo than in its crop; pixels, then, at least
_AS_IT_IS = 0.25  # probability that it is not cleaned: films keep their compression


Recipe = Callable[[float], Degradation]
_KINDS: dict[Recipe, float] = {  # and their probabilities; a single damage otherwise
    recipe_of: 0.17,
    soft_and_noisy: 0.1,
    small_and_noisy: 0.13,
    sharp_and_noisy: 0.07,
    slightly_soft: 0.14,
    nearly_clean: 0.22,
    tiny: 0.1,
}
_SMALL_KINDS: dict[Recipe, float] = {  # of faces that are small already
    sharp_and_noisy: 0.3,
    slightly_soft: 0.3,
    lambda severity: soft_and_noisy(0.6 * severity): 0.15,
}


def draw_condition(kinds: dict[Recipe, float], severity: float, rng: np.random.Generator) -> Degradation:
    """A photo's degradation, of one of the kinds, or a single damage."""
    kind = rng.random()
    for recipe, probability in kinds.items():
        if kind < probability:
            return recipe(severity)
        kind -= probability
    return one_damage(severity, rng)


def draw_crop(faces: np.ndarray, severity: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
    """(the crop that a restorer is given and its original, both [S, S, 3] uint8; the side of the face in the photo, in
    pixels), of one of the faces [N, S, S, 3]."""
    clean = faces[rng.integers(len(faces))]
    if rng.random() < 0.5:
        clean = jitter_light(clean, rng)
    size, side, kinds = len(clean), len(clean), _KINDS
    if rng.random() < _SMALL:
        side = round(math.exp(rng.uniform(math.log(_SMALLEST), math.log(size))))
        kinds = _SMALL_KINDS
    photo = np.asarray(cv2.resize(clean, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    bad = degrade(photo, int(rng.integers(2**31)), draw_condition(kinds, severity, rng))
    crop = bad if rng.random() < _AS_IT_IS and side == size else crop_of(bad, size)
    return crop, clean, side


def through_photo(crop: np.ndarray, side: int) -> np.ndarray:
    """What is left of a crop [S, S, 3], uint8 or float32, in a photo where it has so many pixels to a side."""
    if side >= len(crop):
        return crop
    small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, crop.shape[1::-1], interpolation=cv2.INTER_CUBIC), crop.dtype)


def crop_of(photo: np.ndarray, size: int) -> np.ndarray:
    """The cleaned crop [size, size, 3] uint8 of a photo that is one face, [side, side, 3] uint8."""
    to_crop = whole_transform(photo.shape[1], photo.shape[0], size)
    cleaned = clean_face(photo, face_mask(size), invert(to_crop))
    crop = cleaned.crop(to_crop, size) if cleaned else extract(photo, to_crop, size)
    return np.rint(crop.clip(0, 1) * 255).astype(np.uint8)
