"""What layers cost: multiply-accumulates, and bytes in a file besides their integers (docs/method.md, section 5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..nn.modes import eval_mode
from ..nn.swap import Layer
from ..types import FLOAT_BRANCH, LayerFormat
from .batches import Forward
from .input_sample import output_sides
from .observe import observe_inputs

_VALUE = 4  # bytes per value of a scale or bias


def count_macs(model: nn.Module, layers: Mapping[str, Layer], batches: Sequence[Any], forward: Forward) -> Counter[str]:
    """Each layer's multiply-accumulates over all of its calls in all batches."""
    macs: Counter[str] = Counter()

    def observed(name: str, layer: Layer, x: Tensor) -> None:
        macs[name] += _macs(layer, x)

    with observe_inputs(layers, observed), eval_mode(model):
        for batch in batches:
            forward(model, batch)
    return macs


def _macs(layer: Layer, x: Tensor) -> int:
    """Multiply-accumulates of one call: an attention may pass its windows or frames in place of images."""
    if isinstance(layer, nn.Linear):
        return x.numel() // x.shape[-1] * layer.weight.numel()
    height, width = output_sides(layer, x)
    return len(x) * height * width * layer.weight.numel()


def overhead(layer: Layer, fmt: LayerFormat) -> int:
    """Bytes that a stored layer takes besides its integers: scales, bias, branch."""
    outputs, channels = layer.weight.shape[:2]
    biases = 0 if layer.bias is None else layer.bias.numel()
    branch = fmt.branch_bits // 8 * fmt.rank * (outputs + layer.weight[0].numel())
    if fmt.rank and fmt.branch_bits != FLOAT_BRANCH:
        branch += _VALUE * (outputs + fmt.rank)
    return _VALUE * (outputs + channels + biases) + branch


def stored_bytes(tensors: Iterable[Any], dtype: torch.dtype | None) -> int:
    """Bytes of tensors in a file with floats of a dtype, None = their own; anything but tensors is left out."""
    kept = [t for t in tensors if isinstance(t, Tensor)]
    return sum(t.numel() * (dtype or t.dtype if t.is_floating_point() else t.dtype).itemsize for t in kept)
