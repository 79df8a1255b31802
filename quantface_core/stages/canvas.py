"""What the restored faces of a photo are pasted onto: the photo itself, or the same photo enlarged by other means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from ..faces.align import compose, extract, invert, magnification, resizing
from ..faces.clean import remove_artifacts
from ..faces.contrast import ContrastStretch
from ..faces.paste import Patch, paste
from ..faces.toning import toning_of
from ..types import Crop, Pixels, Plane
from .background import replacement, shows_photo
from .blending import Blending
from .cut_face import CutFace
from .outcome import is_unchanged, measure_strength


class _Beneath(NamedTuple):
    """What a restored face is pasted onto."""

    before: Crop  # [S, S, 3], as the canvas shows it
    clean: Crop  # [S, S, 3], what the face's change is relative to
    sharp: float = 0.0  # how sharp it is in the photo's pixels, 0 to 1
    removed: str = ""  # the artefacts that the canvas lacks
    is_invented: bool = False  # whether it shows another face than the photo


class Canvas(ABC):
    """Takes a photo's restored faces, one by one, and returns what to paste; then pastes it."""

    def __init__(self, photo: Pixels, base: Pixels, blending: Blending) -> None:
        """`base` is what is pasted onto, the photo [H, W, 3] at any size."""
        self._photo, self._base, self._blending = photo, base, blending
        self._enlarge = resizing(*photo.shape[1::-1], *base.shape[1::-1])

    @abstractmethod
    def _beneath(self, face: CutFace) -> _Beneath:
        """What a face is pasted onto."""

    def patch(self, face: CutFace, after: Crop, stretch: ContrastStretch) -> tuple[Patch, float, str]:
        """(what to paste of a restored face, the share of its change that this is, the artefacts that it removes)."""
        blending, place = self._blending, compose(self._enlarge, face.to_image)
        before, clean, sharp, removed, is_invented = self._beneath(face)
        share = blending.share(clean, after, stretch, sharp)
        change = after - clean
        applied, applied_strength = share[..., None] * change, measure_strength(change, share, blending.mask)
        if is_invented:
            applied = replacement(before, clean + applied, applied_strength)
        if blending.is_automatic and is_unchanged(applied_strength, removed):  # unchanged, bit for bit
            return Patch(np.zeros_like(applied), blending.mask, place), 0.0, ""
        fine_detail = blending.fine_detail(before, applied)
        if toning := toning_of(before):
            applied = toning.tone(before, applied)
        # No finer detail is in a photo that is no finer: a crop less is kept in memory.
        finer = fine_detail if magnification(place) > 1 else None
        return Patch(applied, blending.mask, place, finer), applied_strength, removed

    def paste(self, patches: Sequence[Patch]) -> tuple[Pixels, Plane]:
        """(the photo with patches, the mask [H, W] of what may have changed)."""
        return paste(self._base, patches)


class OwnCanvas(Canvas):
    """The photo, enlarged as requested, without the damage of its faces, as far as the options' strength says."""

    def __init__(self, photo: Pixels, faces: Sequence[CutFace], blending: Blending) -> None:
        found = (
            (face.cleaned, np.float32(removal) * blending.mask, face.to_image)
            for face in faces
            if face.cleaned and (removal := blending.removal(face.cleaned))
        )
        self._clean = remove_artifacts(photo, found)
        super().__init__(photo, enlarged(self._clean, blending.options.upscale), blending)

    def _beneath(self, face: CutFace) -> _Beneath:
        same = self._clean is self._photo
        before = face.crop if same else extract(self._clean, face.to_crop, len(face.crop))
        removed = face.cleaned.removed if face.cleaned and self._blending.removal(face.cleaned) else ""
        return _Beneath(before, face.clean, self._blending.sharpness(self._photo, face), removed)

    def paste(self, patches: Sequence[Patch]) -> tuple[Pixels, Plane]:
        result, changed = super().paste(patches)
        upscale = self._blending.options.upscale
        if self._clean is not self._photo and upscale > 1:  # enlarging spreads what was cleaned beyond the masks
            result = np.where(changed[..., None] > 0, result, enlarged(self._photo, upscale))
        return result, changed


class Background(Canvas):
    """The photo enlarged by other means; with strength "auto", its faces stay as far as they show what the photo
    shows."""

    def _beneath(self, face: CutFace) -> _Beneath:
        place = compose(self._enlarge, face.to_image)
        before, pixel = extract(self._base, invert(place), len(face.crop)), magnification(face.to_crop)
        if self._blending.is_automatic and not shows_photo(before, face.crop, self._blending.mask, pixel):
            return _Beneath(before, face.clean, is_invented=True)
        return _Beneath(before, before)  # it has details of its own; the change is relative to those


def enlarged(pixels: Pixels, factor: int) -> Pixels:
    """[H, W, 3] -> [H * factor, W * factor, 3], by Lanczos; the same array where the factor is 1."""
    if factor == 1:
        return pixels
    size = (pixels.shape[1] * factor, pixels.shape[0] * factor)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_LANCZOS4)
