"""How good pictures are: metrics without weights of their own, and pyiqa's by name.

Pictures are [B, 3, H, W] in 0 to 1; a metric gives one score a picture, [B].
"""

from .builtin import BUILTIN_METRICS, LOWER_BETTER, Metric, gmsd, ms_ssim, psnr, ssim
from .by_name import PyiqaMetric, frechet_distance, full_reference, pyiqa_metric

__all__ = [
    "BUILTIN_METRICS",
    "LOWER_BETTER",
    "Metric",
    "PyiqaMetric",
    "frechet_distance",
    "full_reference",
    "gmsd",
    "ms_ssim",
    "psnr",
    "pyiqa_metric",
    "ssim",
]
