"""Image quality metrics: built-in ones, which need no weights, and pyiqa's by name.

Images are [B, 3, H, W] in 0 to 1; a metric returns one score per image, [B].
"""

from .builtin import BUILTIN_METRICS, gmsd, ms_ssim, psnr, ssim
from .by_name import FFHQ, frechet_distance, full_reference, pyiqa_metric
from .metric import Metric

__all__ = [
    "BUILTIN_METRICS",
    "FFHQ",
    "Metric",
    "frechet_distance",
    "full_reference",
    "gmsd",
    "ms_ssim",
    "psnr",
    "pyiqa_metric",
    "ssim",
]
