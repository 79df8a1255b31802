"""Detail in a photo that is finer than the restorer's crop: how much of it is true detail, how much noise.

Neither the crop nor its restoration contains it, so it would pass through unchanged, noise and block edges included.
How much is kept is decided twice: with strength "auto" by what became of the crop's own finest detail
(`blend.kept_detail`), and here. Noise, measured where the face is flattest, is removed by a Wiener filter; of a face
enlarged by repeating pixels nothing is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Crop, Pixels, Plane
from .align import Matrix, footprint, magnification, warp_into
from .area import Area
from .noise import noise_level, wiener_gain

_SUPPRESSION = 2.0  # of noise, see `wiener_gain`
_STEPS = 0.25  # of the mean difference between neighbours: where pixels were repeated, most differences are smaller


@dataclass(frozen=True)
class FineDetail:
    """The detail of a larger photo that its crop cannot contain, and how much of it to keep."""

    crop: Crop  # the photo without this detail
    keep: Plane  # [S, S] in 0 to 1, the share to keep
    noise: float = 0.0  # standard deviation of its noise, in shares of full white; 0 = negligible
    blocks: bool = False  # whether it consists of nothing but the edges of repeated pixels
    removal: float = 1.0  # share of what is not kept to remove, 0 to 1

    @property
    def damage(self) -> str:
        """The artefacts in it: "blocks", "noise" or "" for none."""
        return "blocks" if self.blocks else "noise" if self.noise else ""


def measure_damage(fine_detail: FineDetail, photo: Pixels, mask: Plane, to_photo: Matrix) -> FineDetail:
    """Fill in `noise` and `blocks`, measured inside the crop's mask [S, S]; unchanged if the photo is no finer."""
    if magnification(to_photo) <= 1:
        return fine_detail
    face = footprint(to_photo, len(mask), photo.shape[1], photo.shape[0])
    if face.is_empty:
        return fine_detail
    if _repeated(photo[face.pixels]) >= magnification(to_photo):  # smaller blocks hold detail that the crop does not
        return replace(fine_detail, blocks=True)
    energies = []
    for tile in face.tiles():
        inside = warp_into(tile, mask, to_photo, cv2.BORDER_CONSTANT) > 0.5
        energies.append(_detail_and_energy(tile, face, photo, fine_detail.crop, to_photo)[1][inside])
    return replace(fine_detail, noise=noise_level(np.concatenate(energies)))


def removed_detail(area: Area, photo: Pixels, fine_detail: FineDetail, to_photo: Matrix) -> NDArray[np.float32]:
    """The finer detail to remove from an area of the photo, [h, w, 3] in shares of full white."""
    if fine_detail.blocks:
        return np.float32(fine_detail.removal) * _detail(area, photo, fine_detail.crop, to_photo)
    keep = np.clip(warp_into(area, fine_detail.keep, to_photo, cv2.BORDER_REPLICATE), 0, 1)
    if fine_detail.noise:
        face = footprint(to_photo, len(fine_detail.crop), photo.shape[1], photo.shape[0])
        detail, energy = _detail_and_energy(area, face, photo, fine_detail.crop, to_photo)
        keep *= wiener_gain(energy, fine_detail.noise, _SUPPRESSION)
    else:
        detail = _detail(area, photo, fine_detail.crop, to_photo)
    detail *= np.float32(fine_detail.removal) * (1 - keep)[..., None]
    return detail


def _repeated(region: Pixels) -> float:
    """The factor by which an image was enlarged by repeating pixels, so that most neighbouring rows and columns are
    equal; 1 = it was not."""
    gray, times = cv2.cvtColor(region, cv2.COLOR_RGB2GRAY).astype(np.float32), []
    for axis in (0, 1):
        steps = np.abs(np.diff(gray, axis=axis)).mean(1 - axis)
        if steps.size < 2 or float(np.median(steps)) >= _STEPS * float(steps.mean()):
            return 1.0
        times.append(steps.size / float((steps > steps.mean()).sum()))
    return min(times)


def _detail(area: Area, photo: Pixels, crop: Crop, to_photo: Matrix) -> NDArray[np.float32]:
    detail = np.divide(photo[area.pixels], np.float32(np.iinfo(photo.dtype).max), dtype=np.float32)
    detail -= warp_into(area, crop, to_photo, cv2.BORDER_REPLICATE)
    return detail


def _detail_and_energy(
    area: Area, face: Area, photo: Pixels, crop: Crop, to_photo: Matrix
) -> tuple[NDArray[np.float32], Plane]:
    """(detail [h, w, 3], its local mean square [h, w] over a window of two pixels of the crop, within the face)."""
    side = max(5, int(2 * magnification(to_photo)) | 1)
    seen = area.expanded(side // 2).intersection(face)
    detail = _detail(seen, photo, crop, to_photo)
    energy: Plane = cv2.blur(np.square(detail).mean(2), (side, side))
    within = area.relative_to(seen).pixels
    return detail[within], energy[within]
