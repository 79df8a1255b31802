"""Low-bit layers for training: fake-quantized in float, with two low-rank adapters (docs/method.md, section 4).

    y = Q(x^) W^^T + bias + x^ A1^T B1^T + x^ A2^T B2^T

The adapters are PEFT's: `quantization` starts as the branch that the layer was quantized with, `distillation`
at zero (A normal, B zero). The weight's integers and scales and the biases are frozen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..kernels.balance import branch_weight, low_rank, per_row
from ..kernels.channel_transform import ChannelTransform
from ..kernels.quantize import dequantize, per_image_scale, per_token_scale
from ..kernels.straight_through import fake_quantize
from ..runtime.autocast import autocasts
from .adapters import DISTILLATION, QUANTIZATION, add_adapters, branches_of, start_adapters
from .dequantized_weight import DequantizedWeight
from .qconv2d import QuantConv2d
from .qlayer import QuantLayer
from .qpointwise import QuantPointwiseConv2d
from .replace import replace_by_name
from .swap import quant_layers

_LEAST_CLIP = 0.05


class TrainableLayer(nn.Module):
    """Replaces a low-bit layer: balances its input, then applies the product that PEFT adds its adapters to."""

    def __init__(self, layer: QuantLayer, learn_clip: bool = False) -> None:
        super().__init__()
        self.placeholder = layer.placeholder  # the first of its parameters: of the model's dtype
        self.source = [layer]  # in a list, so that it is no submodule; its integers are saved unchanged
        self.transform = ChannelTransform(layer.channel_scale, layer.rotation)
        clip = torch.tensor(layer.format.clip, dtype=torch.float32, device=layer.packed.device)
        self.clip = nn.Parameter(clip, requires_grad=learn_clip)
        self.product: Any = _float_product(layer)
        # A hook on the product, because the adapters beside it take the unrounded input.
        self.product.register_forward_pre_hook(self._round_input)  # a bound method: a deep copy gets its own

    @property
    def weight(self) -> Tensor:
        """`effective_weight` in the model's dtype, computed when its values are used; for code that reads `weight`."""
        layer = self.source[0]
        return DequantizedWeight(layer.shape, self.placeholder.dtype, self.clip.device, self.effective_weight)

    def effective_weight(self) -> Tensor:
        """The weight on unbalanced x, [O, C, *kernel] float32, adapters included."""
        balanced = getattr(self.product, "base_layer", self.product).weight
        for down, up in branches_of(self.product):
            balanced = balanced + branch_weight(down, up)
        return self.transform.fold(balanced)

    @property
    def bias(self) -> Tensor | None:
        """[O] float32, or None."""
        return self.source[0].bias

    def forward(self, input: Tensor) -> Tensor:
        if input.dtype == torch.float32 or autocasts(input):
            return self._multiplied(input)
        return self._multiplied(input.float()).to(input.dtype)  # the product is in float32, whatever the model's dtype

    def _multiplied(self, x: Tensor) -> Tensor:
        if isinstance(self.source[0], QuantConv2d):
            return self.product(self.transform(x.movedim(1, -1)).movedim(-1, 1))
        if isinstance(self.source[0], QuantPointwiseConv2d):
            return self.product(self.transform(x.movedim(1, -1))).movedim(-1, 1)
        return self.product(self.transform(x))

    def _round_input(self, _: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (self._rounded(given[0]),)

    def _rounded(self, x: Tensor) -> Tensor:
        layer = self.source[0]
        fmt, measure, seen = layer.format, per_token_scale, x.detach()
        if isinstance(layer, QuantConv2d):
            # In float32, as for a float32 model: how scales round in bfloat16 is left to the backends.
            measure, seen = per_image_scale, seen.float()
        if self.clip.requires_grad:
            # Clamped, but with the gradient of the unclamped clip: beyond its bounds it must go on learning.
            bounded = self.clip + (self.clip.clamp(_LEAST_CLIP, 1) - self.clip).detach()
            scale = measure(seen, fmt.activation_bits, 1.0, fmt.zero_point)
            return fake_quantize(x, scale, fmt.activation_bits, bounded, fmt.zero_point)
        scale = measure(seen, *layer.activations)
        return fake_quantize(x, scale, fmt.activation_bits, zero_point=fmt.zero_point)

    def to_integers(self, rank: int = 0, metric: Tensor | None = None) -> QuantLayer:
        """The low-bit layer again, with the trained clip and all adapters joined into one branch.

        Its rank is the sum of theirs, but at most `rank` (0 = no limit) and the full rank of the weight. Where that
        truncates them, their sum's largest singular part is kept, in the metric whose root `low_rank` takes.
        """
        layer, product = self.source[0], self.product
        clip = round(float(self.clip.detach().clamp(_LEAST_CLIP, 1)), 6)
        branches = branches_of(product)
        if not branches:
            return layer.like(replace(layer.format, clip=clip, rank=0))
        down = torch.cat([down for down, _ in branches])
        up = torch.cat([up for _, up in branches], 1)
        full = min(len(up), down[0].numel())
        rank = min(rank or full, full)
        if rank < len(down):
            down, up = low_rank(branch_weight(down, up), rank, layer.format.seed, metric)
        elif len(branches) > 1:
            down, up = _with_normalized_columns(down, up)
        built = layer.like(replace(layer.format, clip=clip, rank=len(down)))
        built.set_branch(down, up)
        return built


def _with_normalized_columns(down: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """The same product, with columns of `up` of mean square 1: at 8 bits, all ranks of an output share one scale."""
    size = up.square().mean(0).sqrt()
    size = torch.where(size > 0, size, torch.ones_like(size))
    return down * per_row(size, down), up / size


def _float_product(layer: QuantLayer) -> nn.Linear | nn.Conv2d:
    """A float layer with the dequantized weight and the bias, for PEFT to adapt."""
    outputs, channels, *kernel = layer.shape
    product: nn.Linear | nn.Conv2d
    if isinstance(layer, QuantConv2d):
        product = nn.Conv2d(channels, outputs, (kernel[0], kernel[1]), layer.stride, layer.padding, device="meta")
    else:
        product = nn.Linear(channels, outputs, device="meta")
    codes = layer.stored_weight().codes()
    values = dequantize(codes, per_row(layer.weight_scale, codes))
    if values.ndim == 4:
        values = values.contiguous(memory_format=torch.channels_last)
    product.weight = nn.Parameter(values, requires_grad=False)
    product.bias = None if layer.bias is None else nn.Parameter(layer.bias.clone(), requires_grad=False)
    return product


def to_trainable(
    model: nn.Module,
    rank: int,
    learn_clips: bool = False,
    seed: int = 0,
    within: str = "",
    learning: Collection[str] | None = None,
) -> None:
    """Replace the low-bit layers of `model` whose names begin with `within` by trainable ones, in place.

    `rank` is the distillation adapter's, 0 = none; `seed` draws its A. Layers without a quantization branch get no
    adapter. `learning` names the layers that learn, None = all; the others only pass gradients on. Afterwards only the
    adapters (and the clips, with `learn_clips`) take gradients. Raises UsageError when there is no low-bit layer.
    """
    layers = {n: layer for n, layer in quant_layers(model).items() if n.startswith(within)}
    learners = set(layers) if learning is None else set(layers) & set(learning)
    if not layers:
        raise UsageError("there are no low-bit layers to train: quantize the model first")
    model.requires_grad_(False)
    replace_by_name(
        model, {name: TrainableLayer(layer, learn_clips and name in learners) for name, layer in layers.items()}
    )
    adapted = [name for name, layer in layers.items() if layer.format.rank]
    if not adapted:
        return
    second = {name: rank for name in adapted if rank and name in learners}
    add_adapters(model, {name: layers[name].format.rank for name in adapted}, second, seed)
    for name in adapted:
        trainable: Any = model.get_submodule(name)
        trainable.clip.requires_grad_(learn_clips and name in learners)  # PEFT has frozen all but its adapters
        start_adapters(
            trainable.product, layers[name], [QUANTIZATION, DISTILLATION] if name in second else [QUANTIZATION]
        )
        if name not in learners:
            trainable.product.requires_grad_(False)


def trainable_parameters(model: nn.Module, distillation_only: bool = False) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name: adapters, and clips if they are learned.

    `distillation_only` freezes the quantization adapters first.
    """
    chosen = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if distillation_only:
        for name, parameter in chosen.items():
            parameter.requires_grad_(f".{QUANTIZATION}." not in name)
        chosen = {n: p for n, p in chosen.items() if p.requires_grad}
    return chosen


def to_integers(model: nn.Module, rank: int = 0, metrics: Mapping[str, Tensor] | None = None) -> None:
    """Replace trainable layers by low-bit ones again, in place; branches have at most `rank`, 0 = no limit.

    metrics: by layer name, the root of the metric in which a branch is truncated, as `low_rank` takes it.
    """
    trained = {name: module for name, module in model.named_modules() if isinstance(module, TrainableLayer)}
    roots = {name: root.to(trained[name].clip.device) for name, root in (metrics or {}).items() if name in trained}
    replace_by_name(model, {name: layer.to_integers(rank, roots.get(name)) for name, layer in trained.items()})


def revert_layers(model: nn.Module, layers: Mapping[str, QuantLayer]) -> None:
    """Put the original layers back, in place, discarding what was learned."""
    replace_by_name(model, layers)
