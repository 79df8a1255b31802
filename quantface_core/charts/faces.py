"""Faces side by side: degraded, restored in full precision, restored by a low-bit model."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import UsageError
from ..metrics import psnr
from .canvas import INK, SOFT, Array, Canvas

_COLUMNS = ("degraded", "full precision", "low-bit")
_HEAD, _FOOT, _GAP, _MARGIN = 34, 26, 8, 12
_NARROWEST = 156  # pixels of a column, so that its label fits


def draw_faces(pictures: Tensor) -> Array:
    """One row per face of [N, 3, 3, S, S] in [-1, 1], with the PSNR of low-bit to full precision below it.

    Returns uint8 [H, W, 3]; the faces' pixels are not resampled. Raises UsageError for another shape.
    """
    if pictures.ndim != 5 or pictures.shape[1:3] != (3, 3) or len(pictures) == 0:
        raise UsageError(f"faces are [faces, 3, 3, height, width], got {list(pictures.shape)}")
    unit = (pictures.detach().float().cpu() / 2 + 0.5).clamp(0, 1)
    pixels = (unit * 255).round().to(torch.uint8).permute(0, 1, 3, 4, 2).numpy()
    likeness = psnr(unit[:, 2], unit[:, 1])
    height, width = pixels.shape[2:4]
    column, row = max(width, _NARROWEST) + _GAP, height + _FOOT
    canvas = Canvas(2 * _MARGIN + 3 * column - _GAP, _HEAD + len(pixels) * row + _MARGIN // 2)
    for i, label in enumerate(_COLUMNS):
        canvas.text(_MARGIN + i * column + (column - _GAP) / 2, _HEAD / 2, label, size=15, anchor="mm", color=INK)
    for j, face in enumerate(pixels):
        top = _HEAD + j * row
        for i, picture in enumerate(face):
            canvas.picture(_MARGIN + i * column + (column - _GAP - width) // 2, top, picture)
        text = f"{float(likeness[j]):.1f} dB to full precision"
        right = _MARGIN + 3 * column - _GAP
        canvas.text(right, top + height + _FOOT / 2, text, anchor="rm", color=SOFT)
    return canvas.finish()
