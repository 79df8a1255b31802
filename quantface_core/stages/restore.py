"""Restore the faces of one photo: detect, align, restore, paste."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..bit_depth import check_pixels
from ..errors import ImageError, UsageError
from ..faces.align import Matrix, face_transform, invert, whole_transform
from ..faces.aligned import is_about_square
from ..faces.clean import clean_face
from ..faces.paste import face_mask
from ..faces.select import select_faces, sort_faces
from ..options import RestoreOptions, check_options
from ..restorer.interface import Restorer, check_restorer
from ..types import Face, Pixels, Progress, Restoration, RestoredFace, silent
from .blending import Blending
from .canvas import Background, Canvas, OwnCanvas
from .contrast import restore_stretched
from .cut_face import CutFace, cut_face

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
    check_restorer(restorer)
    height, width = pixels.shape[:2]
    if background is not None:
        check_pixels(background)
        if background.dtype != pixels.dtype:
            raise ImageError(f"the background must have the photo's dtype, {pixels.dtype}, got {background.dtype}")
        check_background((width, height), (background.shape[1], background.shape[0]), options.upscale)
    size = restorer.image_size
    ordered = sort_faces(faces, options)
    transforms = {i: face_transform(ordered[i], size) for i in select_faces(ordered, options, width, height)}
    blending = Blending(options, face_mask(size, options.feather))
    return _restore(_Photo(pixels, ordered, transforms, blending, background), restorer, progress or silent, keep_crops)


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
    check_restorer(restorer)
    height, width = pixels.shape[:2]
    if not is_about_square(width, height):
        raise ImageError(f"an aligned face is square, but this image is {width}x{height}: restore it as a photo")
    size = restorer.image_size
    whole = Face((0.0, 0.0, float(width), float(height)), (), 1.0)
    transforms = {0: whole_transform(width, height, size)}
    blending = Blending(options, np.ones((size, size), np.float32))
    return _restore(_Photo(pixels, (whole,), transforms, blending), restorer, progress or silent, keep_crops)


def check_background(size: tuple[int, int], background: tuple[int, int], upscale: int) -> None:
    """Raise ImageError for a background whose proportions are not the photo's, UsageError when upscaling one as well.

    Sizes are (width, height) in pixels.
    """
    (width, height), (wide, tall) = size, background
    if abs(wide / width - tall / height) > 0.02 * tall / height:
        raise ImageError(f"the background must be the photo enlarged, but it is {wide}x{tall} for {width}x{height}")
    if upscale != 1:
        raise UsageError("a background is enlarged already: set upscale to 1")


@dataclass(frozen=True, eq=False)
class _Photo:
    """A photo, its faces, and how they are restored."""

    pixels: Pixels
    faces: tuple[Face, ...]
    transforms: Mapping[int, Matrix]  # from the photo to the crops of the faces to restore, by position
    blending: Blending
    background: Pixels | None = None  # the same photo enlarged by other means

    def cut_faces(self) -> list[CutFace]:
        """The faces to restore."""
        pixels, mask = self.pixels, self.blending.mask
        return [
            cut_face(pixels, transform, len(mask), clean_face(pixels, mask, invert(transform)))
            for transform in self.transforms.values()
        ]

    def canvas(self, faces: Sequence[CutFace]) -> Canvas:
        """What they are pasted onto."""
        if self.background is None:
            return OwnCanvas(self.pixels, faces, self.blending)
        return Background(self.pixels, self.background, self.blending)


def _restore(photo: _Photo, restorer: Restorer, progress: Progress, keep_crops: bool) -> Restoration:
    faces = photo.cut_faces()
    afters, stretches = restore_stretched([face.clean for face in faces], restorer, photo.blending.options, progress)
    canvas = photo.canvas(faces)
    for each in (faces, afters):
        each.reverse()  # to be popped: in a crowd they would take gigabytes beside what is pasted
    restored, patches = [], []
    for position, stretch in zip(photo.transforms, stretches, strict=True):
        face, after = faces.pop(), afters.pop()
        patch, applied_strength, removed = canvas.patch(face, after, stretch)
        patches.append(patch)
        kept = (face.crop, np.clip(after, 0, 1)) if keep_crops else (_NO_CROP, _NO_CROP)
        restored.append(RestoredFace(position, *kept, applied_strength, removed))
    result, changed = canvas.paste(patches)
    return Restoration(result, changed, photo.faces, tuple(restored))
