"""Balance and quantize: turn a floating-point model into a low-bit one, layer by layer (docs/method.md).

Each group of layers is searched on its input in the full-precision model (`joined_inputs.py`), so that working copies
exist for one group at a time. The model itself changes only at the end, all at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..errors import ConfigError, UsageError, first_few
from ..kernels.hadamard import largest_block
from ..nn.fold import fold_ahead, take_tensors
from ..nn.qlayer import QuantLayer
from ..nn.swap import Layer, is_pointwise, never_quantized, quant_layers, quantizable, swap
from ..runtime.autocast import without_autocast
from ..runtime.compiled import uncompiled
from ..runtime.memory import released_memory
from ..types import (
    BITS,
    BRANCH_BITS,
    BRANCHES,
    FLOAT_BRANCH,
    ROUNDINGS,
    BitPlan,
    LayerFormat,
    LayerReport,
    Progress,
    QuantConfig,
    check_bits,
    silent,
    widths_in_words,
)
from .batches import Forward, call, materialize
from .chosen_layers import chosen_names, matching
from .fisher import FISHER_BATCHES
from .fold_rules import DIFFUSERS, FoldRule, fold_paths
from .joined_inputs import join_inputs
from .observe import ChannelStatistics, calibrate
from .pretrained import attach_quantizers
from .search import quantize_group
from .shared_inputs import search_groups, shared_input_groups

_LARGEST_SEED = 2**62  # each layer adds its index


@uncompiled
def quantize(
    model: nn.Module,
    batches: Iterable[Any],
    config: QuantConfig | None = None,
    *,
    forward: Forward | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    plan: BitPlan | None = None,
    progress: Progress | None = None,
) -> list[LayerReport]:
    """Calibrate any model on `batches`, then balance and quantize its linears and 2D convolutions, in place.

    A batch is a tensor, a tuple of arguments or a mapping of keywords; use `forward(model, batch)` to feed the model in
    another way. `include` and `exclude` are patterns of layer names (`*` matches anything): what to quantize, and what
    of that to leave out. `plan` (from `allocate`) overrides the config's widths. Each layer is searched on samples of
    its first input in every batch; the model runs over several batches as often as these take to fit into memory.

    Layers that stay in full precision are named in a warning, unless excluded: convolutions that are grouped, dilated,
    transposed, not 2D, or not evenly zero-padded; layers with hooks or a forward other than their class's, such as
    offloading adds (remove it first); PEFT's adapters, but not the layers that they are on (fuse them first to have
    them in the integers); layers that no batch reaches, such as the output layer of `nn.MultiheadAttention`, whose
    weights are read directly; embeddings, and modules that compute with matrices of their own, such as a mixture's
    experts, where these are a notable share of the parameters.

    Returns one report per layer; no parameter takes gradients then. Raises UsageError, ConfigError; on error or
    interruption the model stays unchanged.
    """
    config, batches = QuantConfig() if config is None else config, materialize(batches)
    check_model(model)
    formats = plan_formats(model, config, plan, include, exclude)
    count, report = len(batches), progress or silent

    def calibrating(done: int, of: int) -> None:
        report(done * count // of, count + len(formats))

    def searching(done: int, _: int) -> None:
        report(count + done, count + len(formats))

    statistics = calibrate(model, batches, forward, calibrating, FISHER_BATCHES * config.wants_fisher)
    chosen = matching(others := never_quantized(model), include, exclude)
    staying = {name: what for name, what in others.items() if name in chosen}
    staying |= {name: "a layer that no batch reached" for name in formats if name not in statistics}
    if staying:
        message = f"chosen layers stay in full precision ({len(staying)}): {_described(staying)}"
        warnings.warn(message, stacklevel=3)  # the caller's line: `uncompiled` adds a frame
    reports = quantize_layers(model, statistics, batches, formats, config, forward=forward, progress=searching)
    attach_quantizers(model)
    return reports


def check_model(model: nn.Module) -> None:
    """Raise UsageError unless a model holds layers that can be quantized, with their values."""
    layers, kind = quantizable(model), type(model).__name__
    if not layers and quant_layers(model):
        raise UsageError(f"the {kind} is quantized already: give the original, in full precision")
    if isinstance(model, Layer):
        raise UsageError(f"a {kind} by itself cannot be replaced: give what holds it, or nn.Sequential(layer)")
    if not layers:
        why = f" ({_described(staying)})" if (staying := never_quantized(model)) else ""
        raise UsageError(f"{kind} contains no linear or convolution that can be quantized{why}")
    if unloaded := [name for name, layer in layers.items() if layer.weight.is_meta]:
        raise UsageError(f"{first_few(unloaded)}: on the meta device, without values: load the weights first")


def _described(layers: Mapping[str, str]) -> str:
    return first_few([f"{name} is {what}" for name, what in layers.items()])


def plan_formats(
    model: nn.Module,
    config: QuantConfig,
    plan: BitPlan | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
) -> dict[str, LayerFormat]:
    """Every chosen layer's format before the search, by name: widths, rotation block and seed, rank.

    Raises ConfigError for an invalid config, a plan for another model, or a pattern that matches no layer.
    """
    if plan is not None and not isinstance(plan, BitPlan):
        raise ConfigError(f"a plan is a BitPlan, as allocate returns it, got {plan!r:.40}")
    layers, widths = quantizable(model), dict(plan.layers) if plan else {}
    unknown = sorted(set(widths) - set(layers))
    if unknown:
        raise ConfigError(f"the plan is for another model: there is no layer {unknown[0]}")
    for name, pair in widths.items():
        if any(type(bits) is not int or bits not in BITS for bits in pair):
            raise ConfigError(f"the plan gives {name} {tuple(pair)!r:.40}: widths are {widths_in_words()}")
    check_config(config)
    chosen = chosen_names(list(layers), include, exclude, never_quantized(model))
    formats: dict[str, LayerFormat] = {}
    first = {name: group[0] for group in shared_input_groups(model) for name in group}
    for index, (name, layer) in enumerate(layers.items()):
        if name not in chosen:
            continue
        outputs, channels = layer.weight.shape[:2]
        rank = min(config.rank, min(outputs, channels) // 2)  # a higher one would replace the layer
        weight_bits, activation_bits = widths.get(name, (config.weight_bits, config.activation_bits))
        formats[name] = LayerFormat(
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            block=largest_block(channels, config.block),
            seed=formats[first[name]].seed if first.get(name) in formats else config.seed + index,
            rank=rank,
            per_pixel=is_pointwise(layer),
            branch_bits=config.branch_bits if rank else FLOAT_BRANCH,
        )
    return formats


def check_config(config: QuantConfig) -> None:
    """Raise ConfigError naming the field that is out of bounds."""
    if not isinstance(config, QuantConfig):
        raise ConfigError(f"a config is a QuantConfig, such as QuantConfig(rank=16), got {config!r:.40}")
    for field in ("weight_bits", "activation_bits", "branch_bits", "rank", "block", "seed"):
        if type(value := getattr(config, field)) is not int:
            raise ConfigError(f"{field} is a whole number, got {value!r:.40}")
    for bits in (config.weight_bits, config.activation_bits):
        check_bits(bits)
    if config.rank < 0 or config.block < 1 or config.seed < 0:
        raise ConfigError("rank and seed are at least 0, a rotation block at least 1")
    if config.seed > _LARGEST_SEED:
        raise ConfigError(f"a seed is at most {_LARGEST_SEED}")
    if config.rounding not in ROUNDINGS:
        raise ConfigError(f"rounding is {' or '.join(ROUNDINGS)}, got {config.rounding!r:.40}")
    if config.branch not in BRANCHES:
        raise ConfigError(f"a branch is {' or '.join(BRANCHES)}, got {config.branch!r:.40}")
    if config.branch_bits not in BRANCH_BITS:
        raise ConfigError(f"branch_bits are {' or '.join(map(str, BRANCH_BITS))}, got {config.branch_bits!r:.40}")


@released_memory()
def quantize_layers(
    model: nn.Module,
    statistics: Mapping[str, ChannelStatistics],
    batches: Iterable[Any],
    formats: Mapping[str, LayerFormat],
    config: QuantConfig,
    *,
    forward: Forward | None = None,
    rules: Sequence[FoldRule] = DIFFUSERS,
    progress: Progress = silent,
) -> list[LayerReport]:
    """Quantize the layers that have a format and statistics, in place; see `quantize`.

    Everything is built, balances that fold into producers included, before the model is touched.
    """
    batches = materialize(batches)
    layers = quantizable(model)
    formats = {name: fmt for name, fmt in formats.items() if name in statistics}
    if not formats:
        raise UsageError("nothing to quantize: no chosen layer was reached by a batch")
    groups = search_groups(model, statistics, formats)
    done: dict[str, QuantLayer] = {}
    reports: list[LayerReport] = []

    def found(name: str, _: Layer, x: Tensor) -> None:
        progress(len(done), len(formats))
        group = {n: layers[n] for n in groups[name]}
        with without_autocast(x.device):
            made = quantize_group(group, formats, statistics, x, config)
        done.update((report.name, layer) for layer, report in made)
        reports.extend(report for _, report in made)

    join_inputs(model, {name: layers[name] for name in groups}, batches, forward or call, found)
    built: dict[nn.Module, QuantLayer] = {layers[name]: layer for name, layer in done.items()}
    copies = fold_ahead(fold_paths(model, rules), built)
    progress(len(formats), len(formats))
    swap(model, done)
    take_tensors(copies)
    model.requires_grad_(False)  # as after loading; `distill` chooses what trains
    return reports
