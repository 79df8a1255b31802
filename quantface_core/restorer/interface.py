"""What the rest of the library asks of a restorer, whatever it is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from ..quant.batches import device_of
from ..quant.fold_rules import DIFFUSERS, FoldRule


class Restorer(Protocol):
    """What restoring a photo needs."""

    @property
    def image_size(self) -> int:
        """Pixels, the side of the square crop that it is native to."""

    @property
    def device(self) -> torch.device:
        """Where its weights are, and its input has to be."""

    def __call__(self, image: Tensor, seeds: Sequence[int] | None = None) -> Tensor:
        """Faces [B, 3, H, W] in [-1, 1] -> restored [B, 3, S, S] float32 in [-1, 1]. Raises ImageError, UsageError."""


class Config(Protocol):
    """What describes a restorer's architecture."""

    @property
    def name(self) -> str: ...
    @property
    def image_size(self) -> int: ...
    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: what a file's header keeps."""


class RestorerModel(nn.Module):
    """A restorer that is a module: it can be saved, loaded and quantized. `forward` is as `Restorer` says."""

    family: ClassVar[str]  # its name in `families.py` and in files
    edge_layers: tuple[str, ...] = ()  # parts of the names of layers that keep more bits than the others
    fold_rules: ClassVar[Sequence[FoldRule]] = DIFFUSERS  # where a layer's balance may be given to what is before it
    fidelity: float | None = None  # what `fidelity=` of `forward` is unless given, 0 to 1; None = it has no such choice
    licence: str = ""  # of the weights, where the family knows it
    file_dtype: torch.dtype = torch.float16  # of the float weights in a file
    config: Config

    @property
    def image_size(self) -> int:
        """Pixels, the side of the square crop that it is native to."""
        return self.config.image_size

    @property
    def working_memory(self) -> int:
        """Bytes that restoring one face takes beside the weights: an H100's 0.7 GB at 512x512, by the pixel."""
        return 2800 * self.image_size**2

    @property
    def parts(self) -> tuple[str, ...]:
        """What can be quantized without the rest, by name."""
        return tuple(name for name, _ in self.named_children())

    @property
    def dtype(self) -> torch.dtype:
        """Of what is not integers; float32 where all is."""
        return next((p.dtype for p in self.parameters()), torch.float32)

    @property
    def device(self) -> torch.device:
        return device_of(self)

    @contextmanager
    def gradient_checkpointing(self, residual_blocks: bool = False) -> Iterator[None]:
        """While it lasts, parts that can recompute what gradients need do so, in place of keeping it.

        residual_blocks: inside what is recomputed, each of them again: slower, and in the least memory.
        """
        blocks: list[Any] = [module for module in self.modules() if hasattr(module, "recomputed") and residual_blocks]
        able = [part for part in self.children() if hasattr(part, "enable_gradient_checkpointing")]
        for part in able:
            part.enable_gradient_checkpointing()  # type: ignore[operator]
        for block in blocks:
            block.recomputed = True
        try:
            yield
        finally:
            for part in able:
                part.disable_gradient_checkpointing()  # type: ignore[operator]
            for block in blocks:
                block.recomputed = False

    def outputs(self, image: Tensor) -> tuple[Tensor, ...]:
        """All that there is to learn from when it is distilled: the picture first."""
        return (self(image),)
