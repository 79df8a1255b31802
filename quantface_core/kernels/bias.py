"""A layer's bias in the dtypes of its results."""

from __future__ import annotations

import torch
from torch import Tensor


class Bias:
    """A bias [O], or none, cast to each dtype once: a cast at every call would be one more kernel."""

    def __init__(self, bias: Tensor | None) -> None:
        self._bias = bias
        self._cast: dict[torch.dtype, Tensor] = {}

    def __call__(self, dtype: torch.dtype) -> Tensor | None:
        """The bias in a dtype; None where there is none."""
        if self._bias is None:
            return None
        if dtype not in self._cast:
            self._cast[dtype] = self._bias.to(dtype)
        return self._cast[dtype]
