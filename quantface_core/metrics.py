"""How alike two pictures are: metrics without weights of their own, and pyiqa's by name.

Ours are differentiable, in plain torch, one score an image. Pictures are [B, 3, H, W] in 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import ImageError, UsageError

Metric = Callable[[Tensor, Tensor], Tensor]
_LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)  # BT.601, as face restoration papers measure SSIM
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # MS-SSIM's, finest scale first
_WINDOW, _SIGMA = 11, 1.5


def psnr(pictures: Tensor, references: Tensor) -> Tensor:
    """Peak signal over error, dB, [B]; at most 120."""
    error = (pictures.float() - references.float()).square().flatten(1).mean(1)
    return -10 * error.clamp_min(1e-12).log10()


def ssim(pictures: Tensor, references: Tensor) -> Tensor:
    """Structural similarity of brightness, [B], 1 = the same (Wang et al. 2004)."""
    return _similarity(_luma(pictures), _luma(references))[0]


def ms_ssim(pictures: Tensor, references: Tensor) -> Tensor:
    """Multi-scale structural similarity of brightness, [B] (Wang et al. 2003). Raises ImageError below 161 pixels."""
    if min(pictures.shape[-2:]) <= (_WINDOW - 1) * 2 ** (len(_WEIGHTS) - 1):
        raise ImageError(f"MS-SSIM needs more than 160 pixels a side, got {list(pictures.shape[-2:])}")
    a, b = _luma(pictures), _luma(references)
    score = torch.ones(len(a), device=a.device)
    for i, weight in enumerate(_WEIGHTS):
        full, contrast = _similarity(a, b)
        score = score * (full if i == len(_WEIGHTS) - 1 else contrast).clamp_min(1e-6) ** weight
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return score


OWN: dict[str, Metric] = {"psnr": psnr, "ssim": ssim, "ms_ssim": ms_ssim}


def full_reference(name: str) -> tuple[Metric, bool]:
    """A metric of two pictures by name, and whether lower is better: ours, else pyiqa's. Raises UsageError."""
    if name in OWN:
        return OWN[name], False
    return pyiqa_metric(name)


@cache
def pyiqa_metric(name: str) -> tuple[Metric, bool]:
    """A metric of pyiqa, and whether lower is better; it may download its weights. Raises UsageError."""
    try:
        import pyiqa
    except ImportError as error:
        raise UsageError(
            f"metric {name!r} needs pyiqa ({error}): pip install quantface[metrics]; "
            f"its licence forbids commercial use. Without it: {', '.join(OWN)}"
        ) from None
    try:
        metric = pyiqa.create_metric(name, as_loss=False)
    except Exception as error:  # unknown names, downloads that fail, missing packages: each its own kind
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(f"pyiqa cannot make {name!r}: {reason}") from error
    return metric, bool(metric.lower_better)


def _luma(pictures: Tensor) -> Tensor:
    weights = torch.tensor(_LUMA, device=pictures.device).view(1, 3, 1, 1)
    return (pictures.float() * weights).sum(1, keepdim=True) + 16 / 255


def _similarity(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(SSIM, its contrast and structure alone) of [B, 1, H, W], [B] each."""
    offsets = torch.arange(_WINDOW, device=a.device) - _WINDOW // 2
    line = (-offsets.float().square() / (2 * _SIGMA**2)).exp()
    line = line / line.sum()

    def blurred(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1))

    mean_a, mean_b = blurred(a), blurred(b)
    var_a, var_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
    covariance = blurred(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    contrast = (2 * covariance + c2) / (var_a + var_b + c2)
    full = contrast * (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return full.flatten(1).mean(1), contrast.flatten(1).mean(1)
