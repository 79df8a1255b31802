"""Convert between ComfyUI's images (float tensors in 0 to 1) and the library's (integer arrays)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from . import host

if TYPE_CHECKING:
    from ..quantface_core.types import Pixels

_FULL = 65535.0  # 16 bits: rounding is then invisible
_STRIP = 1 << 22  # pixels processed at a time


def as_pictures(images: torch.Tensor) -> torch.Tensor:
    """Images [N, H, W, 1, 3 or 4] of any float dtype -> RGB [N, H, W, 3] float32. Raises ImageError."""
    from ..quantface_core.errors import ImageError

    if images.ndim != 4 or 0 in images.shape or images.shape[-1] not in (1, 3, 4):
        raise ImageError(f"images must be [count, height, width, 1, 3 or 4] and not empty, got {list(images.shape)}")
    return images[..., :3].detach().float().expand(-1, -1, -1, 3)


def alpha_of(images: torch.Tensor | None) -> torch.Tensor | None:
    """The transparency [N, H, W] of four-channel images; None for others."""
    return images[..., 3].detach().float() if images is not None and images.shape[-1] == 4 else None


def with_alpha(picture: torch.Tensor, alpha: torch.Tensor | None) -> torch.Tensor:
    """An image [H, W, 3] with a transparency [h, w] enlarged to its size -> [H, W, 4]; without one, unchanged."""
    if alpha is None:
        return picture
    alpha = alpha.cpu()
    if alpha.shape != picture.shape[:2]:
        alpha = F.interpolate(alpha[None, None], size=picture.shape[:2], mode="bilinear")[0, 0]
    return torch.cat([picture, alpha[..., None]], dim=-1)


def as_masks(masks: torch.Tensor | None) -> torch.Tensor | None:
    """A mask [H, W], or masks [N, H, W] or [N, 1, H, W] -> [N, H, W] float32. Raises ImageError."""
    from ..quantface_core.errors import ImageError

    if masks is None:
        return None
    if not 2 <= masks.ndim <= 4 or 0 in masks.shape or (masks.ndim == 4 and masks.shape[1] != 1):
        raise ImageError(f"masks must be [count, height, width] and not empty, got {list(masks.shape)}")
    return masks.detach().float().reshape(-1, *masks.shape[-2:])


def strips(height: int, width: int) -> Iterator[slice]:
    """Yield an image's rows in strips, so that a huge image is never held twice; cancellation is checked between
    strips.
    """
    rows = max(1, _STRIP // max(1, width))
    for top in range(0, height, rows):
        host.stop_if_cancelled()
        yield slice(top, top + rows)


def to_pixels(frame: torch.Tensor) -> NDArray[np.uint16]:
    """A frame [H, W, 3] in 0 to 1 -> uint16. Raises ImageError for NaN and infinite values."""
    from ..quantface_core.errors import ImageError

    pixels = np.empty(frame.shape, np.uint16)
    for rows in strips(*frame.shape[:2]):
        part = frame[rows].cpu()
        if not torch.isfinite(part).all():
            raise ImageError("the image contains NaN or infinite values: check the node that made it")
        pixels[rows] = (part.clamp(0, 1) * _FULL).round().numpy()
    return pixels


def from_pixels(pixels: Pixels) -> torch.Tensor:
    """16-bit pixels [H, W, 3] -> a frame in 0 to 1."""
    frame = torch.empty(pixels.shape)
    for rows in strips(*pixels.shape[:2]):
        frame[rows] = torch.from_numpy(pixels[rows].astype(np.float32)).div_(_FULL)
    return frame


def merged(
    restored: Pixels,
    under: Pixels,
    base: torch.Tensor,
    changed: NDArray[np.float32],
    mask: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Restored pixels over the frame they were made from, all [H, W, 3], within the user's mask [h, w] ->
    (picture, changed).

    `under` is the frame as pixels, both 16-bit: where the two are equal, the frame's own, unrounded value is kept. What
    it has beyond 0 to 1, as HDR images do, stays.
    """
    area, base, wanted = torch.from_numpy(changed), base.cpu(), None
    if mask is not None:
        wanted = F.interpolate(mask.cpu()[None, None], size=area.shape, mode="bilinear")[0, 0].clamp_(0, 1)
        area = area * wanted
    picture = torch.empty(base.shape)
    for rows in strips(*base.shape[:2]):
        before, inside = base[rows], area[rows, :, None] > 0
        picture[rows] = before
        if inside.any():
            after = from_pixels(restored[rows]).add_(before - before.clamp(0, 1))
            after = torch.where(torch.from_numpy(restored[rows] == under[rows]), before, after)
            after = after if wanted is None else torch.lerp(before, after, wanted[rows, :, None])
            picture[rows] = torch.where(inside, after, before)
    return picture, area


def stacked(crops: Sequence[NDArray[np.float32]]) -> torch.Tensor:
    """Crops, at least one, as a batch [N, S, S, 3]."""
    return torch.from_numpy(np.stack(crops)).float()


def from_chart(chart: NDArray[np.uint8]) -> torch.Tensor:
    """A drawing [H, W, 3] as a batch of one image."""
    return torch.from_numpy(chart.astype(np.float32) / 255)[None]


def check_count(name: str, entries: int, images: int) -> None:
    """Raise UsageError unless an input has one entry for all images of the batch, or one for each."""
    from ..quantface_core.errors import UsageError

    if entries not in (1, images):
        remedy = "connect one for all its images, or one for each"
        raise UsageError(f"{name}: {entries} for a batch of {images}: {remedy}")


def of_frame(batch: torch.Tensor, index: int) -> torch.Tensor:
    """A batch's entry for a frame; a single one serves all frames."""
    return batch[min(index, len(batch) - 1)]


def as_face_masks(masks: torch.Tensor | None, images: int) -> torch.Tensor | None:
    """Masks for the faces of a batch, as `as_masks` returns them: [1, H, W] for all images, or one for each.

    Several masks for a single image are merged: segmenters make one per face. Raises ImageError, UsageError.
    """
    masks = as_masks(masks)
    if masks is None:
        return None
    if images == 1:
        return masks.amax(0, keepdim=True)
    check_count("face_mask", len(masks), images)
    return masks
