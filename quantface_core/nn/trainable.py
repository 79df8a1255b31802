"""Low-bit layers as training sees them: rounded in float, with two low-rank adapters (DESIGN.md section 3.3).

    y = Q(x^) W^^T + bias + x^ A1^T B1^T + x^ A2^T B2^T

PEFT carries the adapters: `quantization` starts as the branch that the layer was quantized with,
`distillation` at nothing (A normal, B zero). The weight's integers, scales and biases stay as they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import QuantFaceError, UsageError
from ..kernels.balance import low_rank
from ..kernels.channel_transform import ChannelTransform
from ..kernels.quantize import dequantize, per_image_scale, per_token_scale
from ..kernels.straight_through import fake_quantize
from .qconv2d import QuantConv2d
from .qlayer import QuantLayer
from .qpointwise import QuantPointwiseConv2d
from .replace import replace_by_name
from .swap import quant_layers

try:
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import LoraLayer
except ImportError as missing:
    raise QuantFaceError("training needs PEFT: pip install peft") from missing

QUANTIZATION, DISTILLATION = "quantization", "distillation"
_LEAST_CLIP = 0.05


class TrainableLayer(nn.Module):
    """Stands where a low-bit layer stood: balances, then multiplies by what PEFT has put its adapters on."""

    def __init__(self, layer: QuantLayer, learn_clip: bool = False) -> None:
        super().__init__()
        self.source = [layer]  # in a list, so that it is no submodule: its integers are what is saved again
        self.transform = ChannelTransform(layer.channel_scale, layer.rotation)
        clip = torch.tensor(layer.format.clip, dtype=torch.float32, device=layer.packed.device)
        self.clip = nn.Parameter(clip, requires_grad=learn_clip)
        self.product: Any = _float_product(layer)
        # A hook, because the adapters beside the product read what is not rounded.
        self.product.register_forward_pre_hook(self._round_input)  # a method, which a deep copy has its own of

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float32 or torch.is_autocast_enabled(x.device.type):
            return self._multiplied(x)
        return self._multiplied(x.float()).to(x.dtype)  # the product is in float32, whatever the model is in

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
            # In float32, as for a model that runs so: bfloat16's own scales are its backends' affair.
            measure, seen = per_image_scale, seen.float()
        if self.clip.requires_grad:
            # In its bounds, with the gradient that it would have without them: a step beyond must not be the last.
            bounded = self.clip + (self.clip.clamp(_LEAST_CLIP, 1) - self.clip).detach()
            scale = measure(seen, fmt.activation_bits, 1.0, fmt.zero_point)
            return fake_quantize(x, scale, fmt.activation_bits, bounded, fmt.zero_point)
        scale = measure(seen, fmt.activation_bits, fmt.clip, fmt.zero_point)
        return fake_quantize(x, scale, fmt.activation_bits, zero_point=fmt.zero_point)

    def to_integers(self, rank: int = 0, metric: Tensor | None = None) -> QuantLayer:
        """The low-bit layer again, with the trained clip and all adapters as one branch.

        Its rank is the sum of theirs, or at most `rank`, 0 = the sum: then their product's largest singular part, by a
        metric's root as `low_rank` takes it. More than the layer's own rank is never needed.
        """
        layer, product = self.source[0], self.product
        clip = round(float(self.clip.detach().clamp(_LEAST_CLIP, 1)), 6)
        branches = _branches(product)
        if not branches:
            return layer.like(replace(layer.format, clip=clip, rank=0))
        down = torch.cat([down for down, _ in branches])
        up = torch.cat([up for _, up in branches], 1)
        full = min(len(up), down[0].numel())
        rank = min(rank or full, full)
        if rank < len(down):
            together = (up @ down.flatten(1)).view(len(up), *down.shape[1:])
            down, up = low_rank(together, rank, layer.format.seed, metric)
        elif len(branches) > 1:
            down, up = _with_normalized_columns(down, up)
        built = layer.like(replace(layer.format, clip=clip, rank=len(down)))
        built.set_branch(down, up)
        return built


def _with_normalized_columns(down: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """The same product, columns of `up` of mean square 1: in 8 bits the ranks of an output share a scale."""
    size = up.square().mean(0).sqrt()
    size = torch.where(size > 0, size, torch.ones_like(size))
    return down * size.view(-1, *[1] * (down.ndim - 1)), up / size


def _branches(product: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """(down, up) of the product's adapters in the order they were put there, less those that have learned nothing."""
    if not isinstance(product, LoraLayer):
        return []
    pairs: Any = zip(product.lora_A.values(), product.lora_B.values(), strict=True)
    return [(a.weight.detach(), b.weight.detach().flatten(1)) for a, b in pairs if b.weight.any()]


def _float_product(layer: QuantLayer) -> nn.Linear | nn.Conv2d:
    """The layer's rounded weight and its bias in an ordinary layer, which is what PEFT adapts."""
    outputs, channels, *kernel = layer.shape
    product: nn.Linear | nn.Conv2d
    if isinstance(layer, QuantConv2d):
        product = nn.Conv2d(channels, outputs, (kernel[0], kernel[1]), layer.stride, layer.padding, device="meta")
    else:
        product = nn.Linear(channels, outputs, device="meta")
    weight = layer.stored_weight()
    values = dequantize(weight.codes(), weight.scale.view(-1, *[1] * (len(weight.shape) - 1)))
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
    """Replace the low-bit layers of `model`, those whose names begin with `within`, by trainable ones, in place.

    `rank` of the distillation branch, 0 = none. Layers without a quantization branch get no adapter. `learning` names
    the layers that learn, None = all: the others pass gradients on. Afterwards only the adapters (and the clips, if
    learned) take gradients. Raises UsageError when there is no low-bit layer.
    """
    layers = {n: layer for n, layer in quant_layers(model).items() if n.startswith(within)}
    learners = set(layers) if learning is None else set(layers) & set(learning)
    if not layers:
        raise UsageError("there are no low-bit layers to train: calibrate the model first")
    model.requires_grad_(False)
    replace_by_name(
        model, {name: TrainableLayer(layer, learn_clips and name in learners) for name, layer in layers.items()}
    )
    adapted = [name for name, layer in layers.items() if layer.format.rank]
    if not adapted:
        return
    second = {name: rank for name in adapted if rank and name in learners}
    _add_adapters(model, {name: layers[name].format.rank for name in adapted}, second, seed)
    for name in adapted:
        trainable: Any = model.get_submodule(name)
        trainable.clip.requires_grad_(learn_clips and name in learners)  # PEFT has frozen all but its adapters
        product, (down, up) = trainable.product, layers[name].stored_branch()
        started = product.lora_B[QUANTIZATION].weight
        product.lora_A[QUANTIZATION].weight.data.copy_(down)
        started.data.copy_(up.view_as(started))
        product.set_adapter([QUANTIZATION, DISTILLATION] if name in second else [QUANTIZATION])
        if name not in learners:
            product.requires_grad_(False)


def _add_adapters(model: nn.Module, first: Mapping[str, int], second: Mapping[str, int], seed: int) -> None:
    """Put the adapters on the products of trainable layers, of these ranks by layers' names, in place."""
    # PEFT sees these layers alone: it takes names by their ends, and may have put adapters of its own on the model.
    holder = nn.ModuleList([model.get_submodule(name) for name in first])
    keys = {name: f"{index}.product" for index, name in enumerate(first)}
    with _draws_of(seed):
        inject_adapter_in_model(_config({keys[name]: rank for name, rank in first.items()}), holder, QUANTIZATION)
        if second:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # two are meant
                ranks = {keys[name]: rank for name, rank in second.items()}
                inject_adapter_in_model(_config(ranks), holder, DISTILLATION)


@contextmanager
def _draws_of(seed: int) -> Iterator[None]:
    """While it lasts, what PEFT draws is of this seed alone, in float32 whatever torch's default dtype is."""
    default = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(default)


def _config(ranks: dict[str, int]) -> LoraConfig:
    """An adapter on exactly these layers, its product not scaled."""
    first = next(iter(ranks.values()))
    pattern = {f"^{name}$".replace(".", r"\."): rank for name, rank in ranks.items() if rank != first}
    return LoraConfig(
        r=first,
        lora_alpha=first,
        rank_pattern=pattern,
        alpha_pattern=pattern,
        target_modules=list(ranks),
        init_lora_weights="gaussian",
    )


def trainable_parameters(model: nn.Module, distillation_only: bool = False) -> dict[str, nn.Parameter]:
    """What training changes, by name: adapters, and clips if they are learned."""
    chosen = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if distillation_only:
        for name, parameter in chosen.items():
            parameter.requires_grad_(f".{QUANTIZATION}." not in name)
        chosen = {n: p for n, p in chosen.items() if p.requires_grad}
    return chosen


def to_integers(model: nn.Module, rank: int = 0, metrics: Mapping[str, Tensor] | None = None) -> None:
    """Put low-bit layers back in the places of trainable ones, in place; branches of at most `rank`, 0 = any.

    metrics: by layers' names, what of a branch of more counts, as `low_rank` takes it.
    """
    trained = {name: module for name, module in model.named_modules() if isinstance(module, TrainableLayer)}
    roots = {name: root.to(trained[name].clip.device) for name, root in (metrics or {}).items() if name in trained}
    replace_by_name(model, {name: layer.to_integers(rank, roots.get(name)) for name, layer in trained.items()})


def revert_layers(model: nn.Module, layers: Mapping[str, QuantLayer]) -> None:
    """Put these very layers in their places again, in place: nothing was learned."""
    replace_by_name(model, layers)
