"""What every face restorer is, whatever its architecture: what stages, hosts and files ask of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Described(Protocol):
    """A restorer's frozen description: all that it is built from."""

    @property
    def name(self) -> str: ...
    @property
    def image_size(self) -> int: ...  # pixels; native square face crop
    def to_dict(self) -> dict[str, Any]: ...  # JSON-ready


class Restorer(nn.Module):
    """Degraded faces [B, 3, H, W] in [-1, 1], and a seed each or none -> [B, 3, S, S] float32 in [-1, 1].

    A family of architectures is a subclass and a line in `families.py`.
    """

    config: Any  # a Described: each family has its own
    edge_layers: tuple[str, ...] = ()  # patterns of the names of layers that are quantized to `edge_bits`
    fidelity: float | None = None  # what `fidelity=` is unless it is given, 0 to 1; None = there is no such choice
    licence: str = ""  # of the weights, where the family knows it
    file_dtype: torch.dtype = torch.float16  # of the float weights in a file, unless it is given

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in between integers."""
        return next(parameter.dtype for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        return next(parameter.device for parameter in self.parameters())

    def forward(self, image: Tensor, seeds: Sequence[int] | None = None) -> Tensor:
        """Restore faces; without seeds the result is a function of the input alone. Raises ImageError, UsageError."""
        raise NotImplementedError
