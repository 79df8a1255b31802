"""How good pictures are: metrics without weights of their own, and pyiqa's by name.

Pictures are [B, 3, H, W] in 0 to 1; a metric gives one score a picture, [B].
"""

from .by_name import PyiqaMetric, frechet_distance, full_reference, pyiqa_metric
from .own import LOWER_BETTER, OWN, Metric, gmsd, ms_ssim, psnr, ssim

__all__ = [
    "LOWER_BETTER",
    "OWN",
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
