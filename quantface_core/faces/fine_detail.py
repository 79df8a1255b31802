"""Detail of a photo that is finer than the crop a restorer sees: how much of it is detail, how much is noise.

Neither the crop nor its restoration holds it, so it would come through as it is, noise and block edges included.
What stays is decided twice: by what became of the crop's own finest detail (`blend.kept_detail`), and here: of noise,
measured where the face is flattest, by Wiener's rule; of a face enlarged by repeating pixels nothing stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..types import Pixels
from .align import Matrix, footprint, magnification, warp_into
from .area import Area

Plane = NDArray[np.float32]

_FLATTEST = 10  # percent of a face where finer detail is taken for noise alone
_GRAIN = (4 / 255, 7 / 255)  # noise up to the first is a photo's own grain and stays; from the second on it goes
_SUPPRESSION = 2.0  # times the noise's energy that a place needs before its detail is any
_STEPS = 0.25  # of the mean step from pixel to pixel; most steps are below it where pixels were repeated


@dataclass(frozen=True)
class FineDetail:
    """What a crop cannot hold of a larger photo, and how much of it is to stay."""

    crop: NDArray[np.float32]  # [S, S, 3] in shares of full white: the photo without it
    keep: Plane  # [S, S] in 0 to 1
    noise: float = 0.0  # standard deviation of its noise, in shares of full white; 0 = none to speak of
    blocks: bool = False  # whether it is but the edges of repeated pixels

    @property
    def damage(self) -> str:
        """What is not detail in it: "blocks", "noise" or nothing."""
        return "blocks" if self.blocks else "noise" if self.noise else ""


def measure_damage(fine_detail: FineDetail, photo: Pixels, mask: Plane, to_photo: Matrix) -> FineDetail:
    """The same with its damage measured inside the crop's mask [S, S]; none where the photo is no finer."""
    if magnification(to_photo) <= 1:
        return fine_detail
    face = footprint(to_photo, len(mask), photo.shape[1], photo.shape[0])
    if face.is_empty:
        return fine_detail
    if _repeated(photo[face.pixels]) >= magnification(to_photo):  # finer ones hold what the crop does not
        return replace(fine_detail, blocks=True)
    energies = []
    for tile in face.tiles():
        inside = warp_into(tile, mask, to_photo, cv2.BORDER_CONSTANT) > 0.5
        energies.append(_detail_and_energy(tile, face, photo, fine_detail.crop, to_photo)[1][inside])
    energy = np.concatenate(energies)
    noise = float(np.sqrt(np.percentile(energy, _FLATTEST))) if energy.size else 0.0
    return replace(fine_detail, noise=noise if noise > _GRAIN[0] else 0.0)


def removed_detail(area: Area, photo: Pixels, fine_detail: FineDetail, to_photo: Matrix) -> NDArray[np.float32]:
    """What an area of the photo loses of its finer detail, [h, w, 3] in shares of full white."""
    if fine_detail.blocks:
        return _detail(area, photo, fine_detail.crop, to_photo)
    keep = np.clip(warp_into(area, fine_detail.keep, to_photo, cv2.BORDER_REPLICATE), 0, 1)
    if fine_detail.noise:
        face = footprint(to_photo, len(fine_detail.crop), photo.shape[1], photo.shape[0])
        detail, energy = _detail_and_energy(area, face, photo, fine_detail.crop, to_photo)
        ramp = min(1.0, (fine_detail.noise - _GRAIN[0]) / (_GRAIN[1] - _GRAIN[0]))
        keep *= 1 - ramp * np.minimum(1, _SUPPRESSION * fine_detail.noise**2 / np.maximum(energy, 1e-9))
    else:
        detail = _detail(area, photo, fine_detail.crop, to_photo)
    detail *= (1 - keep)[..., None]
    return detail


def _repeated(region: Pixels) -> float:
    """How many times pixels were repeated to enlarge a picture: from most columns to the next, and rows, nothing
    changes; 1 = they were not."""
    gray, times = cv2.cvtColor(region, cv2.COLOR_RGB2GRAY).astype(np.float32), []
    for axis in (0, 1):
        steps = np.abs(np.diff(gray, axis=axis)).mean(1 - axis)
        if steps.size < 2 or float(np.median(steps)) >= _STEPS * float(steps.mean()):
            return 1.0
        times.append(steps.size / float((steps > steps.mean()).sum()))
    return min(times)


def _detail(area: Area, photo: Pixels, crop: NDArray[np.float32], to_photo: Matrix) -> NDArray[np.float32]:
    detail = np.divide(photo[area.pixels], np.float32(np.iinfo(photo.dtype).max), dtype=np.float32)
    detail -= warp_into(area, crop, to_photo, cv2.BORDER_REPLICATE)
    return detail


def _detail_and_energy(
    area: Area, face: Area, photo: Pixels, crop: NDArray[np.float32], to_photo: Matrix
) -> tuple[NDArray[np.float32], Plane]:
    """Detail, and its mean square around every pixel over two pixels of the crop, where the face goes on."""
    side = max(5, int(2 * magnification(to_photo)) | 1)
    seen = area.grown(side // 2).overlap(face)
    detail = _detail(seen, photo, crop, to_photo)
    energy: Plane = cv2.blur(np.square(detail).mean(2), (side, side))
    within = area.seen_from(seen).pixels
    return detail[within], energy[within]
