"""Image similarity without weights: differentiable, in plain torch, one score per image.

Images are [B, 3, H, W] in 0 to 1. Values agree with pyiqa's, which papers report, to 1e-3: brightness is Rec. 601 luma,
0 to 1.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ImageError
from .metric import Metric

_Compute = Callable[[Tensor, Tensor], Tensor]
_LUMA = (0.299, 0.587, 0.114)
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # MS-SSIM's, finest scale first
_WINDOW, _SIGMA = 11, 1.5
_STEADY = 170 / 255**2  # GMSD's constant, for brightness in 0 to 1
_TINY = 1e-12  # under a root, so that its gradient stays finite


def _in_float32(metric: _Compute) -> _Compute:
    """Run a metric outside autocast: variances are small differences of large sums, which bfloat16 loses."""

    @functools.wraps(metric)
    def score(pictures: Tensor, references: Tensor) -> Tensor:
        with _no_autocast(pictures.device.type):
            return metric(pictures, references)

    return score


def _no_autocast(device: str) -> AbstractContextManager[Any]:
    try:
        return torch.autocast(device, enabled=False)
    except (AssertionError, RuntimeError):  # a device that has no autocast
        return nullcontext()


def psnr(pictures: Tensor, references: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, [B]; at most 120."""
    error = (pictures.float() - references.float()).square().flatten(1).mean(1)
    return -10 * error.clamp_min(1e-12).log10()


@_in_float32
def ssim(pictures: Tensor, references: Tensor) -> Tensor:
    """Structural similarity of luma, [B], 1 = identical (Wang et al. 2004)."""
    return _similarity(_luma(pictures), _luma(references))[0]


@_in_float32
def ms_ssim(pictures: Tensor, references: Tensor) -> Tensor:
    """Multi-scale structural similarity of luma, [B], 1 = identical (Wang et al. 2003).

    Raises ImageError for sides below 161 pixels.
    """
    if min(pictures.shape[-2:]) <= (_WINDOW - 1) * 2 ** (len(_WEIGHTS) - 1):
        raise ImageError(f"MS-SSIM needs more than 160 pixels per side, got {list(pictures.shape[-2:])}")
    a, b = _luma(pictures), _luma(references)
    score = torch.ones(len(a), dtype=a.dtype, device=a.device)
    for i, weight in enumerate(_WEIGHTS):
        full, contrast = _similarity(a, b)
        score = score * (full if i == len(_WEIGHTS) - 1 else contrast).clamp_min(1e-6) ** weight
        odd = (a.shape[2] % 2, a.shape[3] % 2)
        a, b = F.avg_pool2d(a, 2, padding=odd), F.avg_pool2d(b, 2, padding=odd)
    return score


@_in_float32
def gmsd(pictures: Tensor, references: Tensor) -> Tensor:
    """Gradient magnitude similarity deviation of luma, [B], 0 = identical (Xue et al. 2014)."""
    a, b = (_gradient(F.avg_pool2d(_luma(x), 2)) for x in (pictures, references))
    likeness = (2 * a * b + _STEADY) / (a.square() + b.square() + _STEADY)
    return (likeness.flatten(1).var(1) + _TINY).sqrt()


BUILTIN_METRICS = {
    "psnr": Metric("psnr", psnr),
    "ssim": Metric("ssim", ssim),
    "ms_ssim": Metric("ms_ssim", ms_ssim),
    "gmsd": Metric("gmsd", gmsd, lower_better=True),
}


def _luma(pictures: Tensor) -> Tensor:
    weights = torch.tensor(_LUMA, dtype=torch.float32, device=pictures.device).view(1, 3, 1, 1)
    return (pictures.float() * weights).sum(1, keepdim=True)


def _gradient(x: Tensor) -> Tensor:
    """Magnitude of the Prewitt gradient of [B, 1, H, W], [B, H, W]."""
    across = torch.tensor([[1.0, 0.0, -1.0]] * 3, dtype=x.dtype, device=x.device).view(1, 1, 3, 3) / 3
    parts = F.conv2d(x, torch.cat([across, across.transpose(2, 3)]), padding=1)
    return (parts.square().sum(1) + _TINY / 255**2).sqrt()


def _similarity(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(SSIM, its contrast-structure term alone) of [B, 1, H, W], [B] each."""
    offsets = torch.arange(_WINDOW, device=a.device) - _WINDOW // 2
    line = (-offsets.float().square() / (2 * _SIGMA**2)).exp()
    line = line / line.sum()

    def blurred(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1))

    mean_a, mean_b = blurred(a), blurred(b)
    var_a, var_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
    covariance = blurred(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    contrast = F.relu((2 * covariance + c2) / (var_a + var_b + c2))  # negative correlation counts as none
    full = contrast * (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return full.flatten(1).mean(1), contrast.flatten(1).mean(1)
