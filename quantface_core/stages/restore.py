"""Restore the faces of one photo: detect, align, restore, paste."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np

from ..bit_depth import check_pixels
from ..errors import ImageError, UsageError
from ..faces.align import (
    Matrix,
    compose,
    extract,
    face_transform,
    invert,
    magnification,
    resizing,
    whole_transform,
)
from ..faces.aligned import is_about_square
from ..faces.clean import CleanFace, clean_face, remove_artifacts
from ..faces.paste import Patch, face_mask, paste
from ..faces.select import select_faces, sort_faces
from ..faces.toning import toning_of
from ..options import RestoreOptions, check_options
from ..restorer.interface import Restorer
from ..types import Crop, Face, Pixels, Plane, Restoration, RestoredFace
from .background import replacement, shows_photo
from .batches import Progress
from .blending import choose_share, fine_detail_of, removal_of, sharpness_of
from .contrast import restore_stretched
from .outcome import is_unchanged, measure_strength

_NO_CROP = np.zeros((0, 0, 3), np.float32)


def restore_photo(
    pixels: Pixels,
    restorer: Restorer,
    faces: Sequence[Face],
    options: RestoreOptions | None = None,
    progress: Progress | None = None,
    background: Pixels | None = None,
    *,
    keep_crops: bool = True,
) -> Restoration:
    """Restore the given faces of an RGB photo [H, W, 3], uint8 or uint16.

    `faces` come from a detector or from the user; the options choose among them. A photo without faces is returned
    unchanged, upscaled if requested; so are faces that lie wholly outside it or cannot be aligned. `background` is the
    same photo enlarged by other means (same dtype, upscale 1), onto which the faces are pasted instead of our own
    enlargement; with strength "auto", its own faces stay as far as they show what the photo shows. Without `keep_crops`
    the result's faces have none, which saves memory in a crowd. Raises ImageError, UsageError, ModelError, and as
    `restore_crops` does.
    """
    options = options or RestoreOptions()
    check_options(options)
    check_pixels(pixels)
    height, width = pixels.shape[:2]
    if background is not None:
        check_pixels(background)
        if background.dtype != pixels.dtype:
            raise ImageError(f"the background must have the photo's dtype, {pixels.dtype}, got {background.dtype}")
        check_background((width, height), (background.shape[1], background.shape[0]), options.upscale)
    size = restorer.image_size
    ordered = sort_faces(faces, options)
    transforms = {i: face_transform(ordered[i], size) for i in select_faces(ordered, options, width, height)}
    mask = face_mask(size, options.feather)
    return _restore(pixels, restorer, ordered, transforms, mask, options, progress, background, keep_crops)


def restore_aligned(
    pixels: Pixels,
    restorer: Restorer,
    options: RestoreOptions | None = None,
    progress: Progress | None = None,
    *,
    keep_crops: bool = True,
) -> Restoration:
    """Restore an RGB image [H, W, 3], uint8 or uint16, that is one about square aligned crop; any pixel may change.

    `keep_crops` is as for `restore_photo`. Raises as it does, and ImageError when the image is not about square.
    """
    options = options or RestoreOptions()
    check_options(options)
    check_pixels(pixels)
    height, width = pixels.shape[:2]
    if not is_about_square(width, height):
        raise ImageError(f"an aligned face is square, but this image is {width}x{height}: restore it as a photo")
    size = restorer.image_size
    mask = np.ones((size, size), np.float32)
    whole = Face((0.0, 0.0, float(width), float(height)), (), 1.0)
    transforms = {0: whole_transform(width, height, size)}
    return _restore(pixels, restorer, (whole,), transforms, mask, options, progress, None, keep_crops)


def check_background(size: tuple[int, int], background: tuple[int, int], upscale: int) -> None:
    """Raise ImageError for a background whose proportions are not the photo's, UsageError when upscaling one as well.

    Sizes are (width, height) in pixels.
    """
    (width, height), (wide, tall) = size, background
    if abs(wide / width - tall / height) > 0.02 * tall / height:
        raise ImageError(f"the background must be the photo enlarged, but it is {wide}x{tall} for {width}x{height}")
    if upscale != 1:
        raise UsageError("a background is enlarged already: set upscale to 1")


def _restore(
    pixels: Pixels,
    restorer: Restorer,
    faces: tuple[Face, ...],
    transforms: Mapping[int, Matrix],
    mask: Plane,
    options: RestoreOptions,
    progress: Progress | None,
    background: Pixels | None,
    keep_crops: bool,
) -> Restoration:
    """Restore those of the faces that have a transform to their crop, by position."""
    clean_faces = [clean_face(pixels, mask, invert(transform)) for transform in transforms.values()]
    crops = [extract(pixels, transform, len(mask)) for transform in transforms.values()]
    clean_crops = [
        face.crop(transform, len(mask)) if face else crop
        for face, crop, transform in zip(clean_faces, crops, transforms.values(), strict=True)
    ]
    afters, stretches = restore_stretched(clean_crops, restorer, options, progress)
    for each in (crops, clean_crops, afters):
        each.reverse()  # to be popped: in a crowd they would take gigabytes beside what is pasted
    clean_photo = (
        pixels if background is not None else _cleaned(pixels, clean_faces, transforms.values(), mask, options)
    )
    base = enlarged(clean_photo, options.upscale) if background is None else background
    enlarge = resizing(*pixels.shape[1::-1], *base.shape[1::-1])
    restored, patches = [], []
    for stretch, face, (position, transform) in zip(stretches, clean_faces, transforms.items(), strict=True):
        crop, clean, after = crops.pop(), clean_crops.pop(), afters.pop()
        to_photo = invert(transform)
        place = compose(enlarge, to_photo)
        before, is_invented = crop if clean_photo is pixels else extract(clean_photo, transform, len(mask)), False
        if background is not None:
            before, automatic = extract(base, invert(place), len(mask)), isinstance(options.strength, str)
            is_invented = automatic and not shows_photo(before, crop, mask, magnification(transform))
            if not is_invented:  # it has details of its own; the change is relative to those, not to the photo's
                clean = before
        sharp = sharpness_of(pixels, face, mask, to_photo, options) if background is None else 0.0
        share = choose_share(clean, after, stretch, options.strength, sharp)
        artifact = face.removed if face and background is None and removal_of(face.removed, options) else ""
        change = after - clean
        applied, applied_strength = share[..., None] * change, measure_strength(change, share, mask)
        if is_invented:
            applied = replacement(before, clean + applied, applied_strength)
        patch, applied_strength, removed = _patch(
            before, applied, applied_strength, base, place, mask, options, artifact
        )
        patches.append(patch)
        kept = (crop, np.clip(after, 0, 1)) if keep_crops else (_NO_CROP, _NO_CROP)
        restored.append(RestoredFace(position, *kept, applied_strength, removed))
    result, changed = paste(base, patches)
    if clean_photo is not pixels and options.upscale > 1:  # enlarging spreads what was cleaned beyond the masks
        result = np.where(changed[..., None] > 0, result, enlarged(pixels, options.upscale))
    return Restoration(result, changed, faces, tuple(restored))


def _cleaned(
    pixels: Pixels,
    clean_faces: Iterable[CleanFace | None],
    transforms: Iterable[Matrix],
    mask: Plane,
    options: RestoreOptions,
) -> Pixels:
    """The photo with the damage of its faces removed, as far as the options' strength says."""
    found = [
        (face, np.float32(removal) * mask, invert(transform))
        for face, transform in zip(clean_faces, transforms, strict=True)
        if face and (removal := removal_of(face.removed, options))
    ]
    return remove_artifacts(pixels, found)


def _patch(
    before: Crop,
    applied: Crop,
    applied_strength: float,
    base: Pixels,
    place: Matrix,
    mask: Plane,
    options: RestoreOptions,
    artifact: str,
) -> tuple[Patch, float, str]:
    """(what to paste of a restored face, the share of its change that this is, the artefacts that it removes)."""
    strength = options.strength
    if strength == 0 or (strength == "auto" and is_unchanged(applied_strength, artifact)):  # unchanged, bit for bit
        return Patch(np.zeros_like(applied), mask, place), 0.0, ""
    fine_detail = fine_detail_of(before, applied, strength)
    if toning := toning_of(before):
        applied = toning.tone(before, applied)
    # No finer detail is in a photo that is no finer: a crop less is kept in memory.
    return Patch(applied, mask, place, fine_detail if magnification(place) > 1 else None), applied_strength, artifact


def enlarged(pixels: Pixels, factor: int) -> Pixels:
    """[H, W, 3] -> [H * factor, W * factor, 3], by Lanczos; the same array where the factor is 1."""
    if factor == 1:
        return pixels
    size = (pixels.shape[1] * factor, pixels.shape[0] * factor)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_LANCZOS4)
