"""The images that go into a restorer and come out of it, of any family."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ImageError, UsageError


def preprocess(image: Tensor, seeds: Sequence[int] | None, size: int) -> Tensor:
    """Check faces [B, 3, H, W] and resize them to [B, 3, size, size].

    Raises ImageError for another shape or values that are not finite, UsageError unless there is one seed per image.
    """
    if image.ndim != 4 or image.shape[1] != 3:
        raise ImageError(f"faces must be [batch, 3, height, width], got {list(image.shape)}")
    if not torch.isfinite(image).all():
        raise ImageError("the image contains NaN or infinite values")
    if seeds is not None and len(seeds) != len(image):
        raise UsageError(f"one seed per image is needed, got {len(seeds)} seeds for {len(image)} images")
    if image.shape[-2:] != (size, size):
        image = F.interpolate(image, size=(size, size), mode="bilinear", align_corners=True)
    return image


def postprocess(image: Tensor) -> Tensor:
    """Convert a restored image to float32 and clamp it to [-1, 1]. Raises ImageError when it is not finite."""
    if not torch.isfinite(image).all():
        raise ImageError(f"the restorer's output is not finite in {image.dtype}: use float32 or bfloat16")
    return image.float().clamp(-1, 1)
