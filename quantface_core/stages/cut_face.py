"""A face cut out of a photo or of a film's frame, as it is and without its damage: what is restored."""

from __future__ import annotations

from dataclasses import dataclass

from ..faces.align import Matrix, extract, invert
from ..faces.clean import CleanFace
from ..types import Crop, Pixels


@dataclass(frozen=True, eq=False)
class CutFace:
    """One face of an image, which is a photo or a frame."""

    to_crop: Matrix  # from the image's pixels
    crop: Crop  # [S, S, 3] in 0 to 1, as the image shows it
    clean: Crop  # the same without its damage; the same array if it has none
    cleaned: CleanFace | None  # the part of the image around it without that damage; None = it has none

    @property
    def to_image(self) -> Matrix:
        """The map from its crop to the image."""
        return invert(self.to_crop)


def cut_face(image: Pixels, to_crop: Matrix, size: int, cleaned: CleanFace | None) -> CutFace:
    """Cut a face out of an image [H, W, 3]. Raises ImageError when it lies wholly outside."""
    crop = extract(image, to_crop, size)
    return CutFace(to_crop, crop, cleaned.crop(to_crop, size) if cleaned else crop, cleaned)
