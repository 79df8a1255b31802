"""Calibrate: what the channels of every layer carry, seen over some images (DESIGN.md section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..kernels.allocator import kept_memory
from ..nn.swap import quantizable
from ..restorer import OneStepRestorer

Progress = Callable[[int, int], None]
"""Called with (done, in all); an exception it raises stops the work."""

_MOMENTUM = 0.9


@dataclass(frozen=True)
class ChannelStatistics:
    """Of one layer's input."""

    largest: Tensor  # [C] float32, momentum average over images of the largest magnitude
    mean_square: Tensor  # [C] float32, average over images


@kept_memory()
def calibrate(
    restorer: OneStepRestorer, images: Tensor, progress: Progress | None = None
) -> dict[str, ChannelStatistics]:
    """Run the restorer over images [N, 3, H, W] in [-1, 1] one by one; statistics by layer name.

    Layers that never ran are absent. Raises UsageError when there is no image, ImageError on NaN.
    """
    if len(images) == 0:
        raise UsageError("calibration needs at least one image")
    layers = quantizable(restorer)
    largest: dict[str, Tensor] = {}
    square: dict[str, Tensor] = {}

    def watch(name: str, layer: nn.Module, x: Tensor) -> None:
        rows = _channels_last(layer, x).flatten(0, -2).float()
        top, mean = rows.abs().amax(0), rows.square().mean(0)
        largest[name] = top if name not in largest else largest[name].lerp(top, 1 - _MOMENTUM)
        square[name] = square.get(name, 0) + mean / len(images)

    with listening(layers, watch):
        for i, image in enumerate(images):
            if progress:
                progress(i, len(images))
            restorer(image[None].to(restorer.device))
    return {name: ChannelStatistics(largest[name], square[name]) for name in layers if name in largest}


def _channels_last(layer: nn.Module, x: Tensor) -> Tensor:
    return x.movedim(1, -1) if isinstance(layer, nn.Conv2d) else x


@contextmanager
def listening(layers: Mapping[str, nn.Module], heard: Callable[[str, nn.Module, Tensor], None]) -> Iterator[None]:
    """While it lasts, `heard(name, layer, input)` runs before every layer, without gradients."""
    hooks = [
        layer.register_forward_pre_hook(lambda module, x, name=name: heard(name, module, x[0]))
        for name, layer in layers.items()
    ]
    try:
        with torch.no_grad():
            yield
    finally:
        for hook in hooks:
            hook.remove()
