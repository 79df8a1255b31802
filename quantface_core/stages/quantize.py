"""Balance and quantize: a full-precision restorer becomes one of integers, layer by layer.

Each layer is searched while the full-precision model runs and its input is at hand, so no more than one
layer's copies exist at a time. The model itself changes only at the end, all at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError, UsageError
from ..kernels.balance import channel_scale, low_rank
from ..kernels.bitpack import pack
from ..kernels.hadamard import Rotation, largest_block, rotate
from ..kernels.quantize import dequantize, largest_code, per_channel_scale, per_image_scale, per_token_scale, quantize
from ..nn.qlayer import QuantLayer
from ..nn.swap import empty_like, quantizable, swap
from ..restorer import OneStepRestorer
from ..types import LayerFormat, LayerReport, QuantizeSettings
from .calibrate import ChannelStatistics, Progress, listening

EXPONENTS = (None, 0.25, 0.5, 0.75)  # of the scaling; None = no scaling
CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)  # of activations
_EDGES = ("conv_in", "conv_out", "time_emb", "quant_conv", "time_embedding")
_TOKENS = 1024  # rows of a linear's input that a search looks at
_WINDOW = 128  # pixels, side of the window of a convolution's input that a search looks at
_NARROW = 2  # a layer with fewer channels than this many ranks gets no branch: it would replace the layer


def plan_formats(restorer: OneStepRestorer, settings: QuantizeSettings) -> dict[str, LayerFormat]:
    """Every layer's format before the search, by name: widths, rotation block and seed, rank."""
    for bits in (settings.weight_bits, settings.activation_bits, settings.edge_bits):
        largest_code(bits)
    if settings.rank < 0 or settings.block < 1 or settings.seed < 0:
        raise ConfigError("rank and seed are at least 0, a rotation block at least 1")
    formats = {}
    for index, (name, layer) in enumerate(quantizable(restorer).items()):
        if name.split(".")[0] not in settings.parts:
            continue
        edge = any(word in name for word in _EDGES)
        outputs, channels = layer.weight.shape[:2]
        narrow = min(outputs, channels) < _NARROW * settings.rank
        formats[name] = LayerFormat(
            weight_bits=settings.edge_bits if edge else settings.weight_bits,
            activation_bits=settings.edge_bits if edge else settings.activation_bits,
            block=largest_block(channels, settings.block),
            seed=settings.seed + index,
            rank=0 if edge or narrow else settings.rank,
        )
    return formats


def quantize_restorer(
    restorer: OneStepRestorer,
    statistics: Mapping[str, ChannelStatistics],
    images: Tensor,
    settings: QuantizeSettings | None = None,
    progress: Progress | None = None,
) -> list[LayerReport]:
    """Quantize `restorer` in place; `images` [N, 3, H, W] in [-1, 1] feed the searches. Returns the reports.

    Interrupted or refused, the restorer stays as it was. Raises UsageError, ConfigError.
    """
    settings = settings or QuantizeSettings()
    if len(images) == 0:
        raise UsageError("quantizing needs at least one image")
    formats = {n: f for n, f in plan_formats(restorer, settings).items() if n in statistics}
    if not formats:
        raise UsageError(f"nothing to quantize in {', '.join(settings.parts)}")
    done: dict[str, QuantLayer] = {}
    reports: list[LayerReport] = []

    def heard(name: str, layer: nn.Module, x: Tensor) -> None:
        if name in done:
            return
        if progress:
            progress(len(done), len(formats))
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        done[name], report = quantize_layer(name, layer, formats[name], statistics[name], x, settings)
        reports.append(report)

    layers = quantizable(restorer)
    with listening({name: layers[name] for name in formats}, heard):
        restorer(images.to(restorer.device))
    swap(restorer, done)
    if progress:
        progress(len(formats), len(formats))
    return reports


def quantize_layer(
    name: str,
    layer: nn.Linear | nn.Conv2d,
    form: LayerFormat,
    statistics: ChannelStatistics,
    x: Tensor,
    settings: QuantizeSettings,
) -> tuple[QuantLayer, LayerReport]:
    """Search exponent and clip of one layer by its output error on `x`, then round its weight."""
    trial = _Trial(layer, form, statistics, x, settings)
    best: float | None = None
    if settings.scaling:
        best = min(EXPONENTS, key=lambda a: trial.error(a, 0.8 if settings.clipping else 1.0))
    clip = min(CLIPS, key=lambda c: trial.error(best, c)) if settings.clipping else 1.0
    form = replace(form, clip=clip)
    plain = _Trial(layer, replace(form, block=1, rank=0), statistics, x, replace(settings, clipping=False))
    median = float(statistics.largest.median().clamp_min(1e-12))
    report = LayerReport(
        name,
        tuple(layer.weight.shape),
        form,
        best,
        float(statistics.largest.max()) / median,
        plain.error(None, 1.0),
        trial.error(best, clip),
    )
    return trial.build(best, form), report


class _Trial:
    """One layer's weight and a sample of its input, to be balanced and rounded in different ways."""

    def __init__(
        self,
        layer: nn.Linear | nn.Conv2d,
        form: LayerFormat,
        statistics: ChannelStatistics,
        x: Tensor,
        settings: QuantizeSettings,
    ) -> None:
        self.layer, self.form, self.statistics, self.settings = layer, form, statistics, settings
        self.weight = layer.weight.detach().float()
        self.conv = isinstance(layer, nn.Conv2d)
        self.rotation = Rotation(self.weight.shape[1], form.block, form.seed)
        generator = torch.Generator().manual_seed(form.seed)
        x = x.detach().float()
        if self.conv:
            # The scale is the whole image's, so the search keeps where the window was cut from.
            tops = [int(torch.randint(max(1, side - _WINDOW + 1), (1,), generator=generator)) for side in x.shape[2:]]
            self.whole, self.window = x, (slice(tops[0], tops[0] + _WINDOW), slice(tops[1], tops[1] + _WINDOW))
        else:
            rows = x.flatten(0, -2)
            self.whole = rows[torch.randperm(len(rows), generator=generator)[:_TOKENS].to(rows.device)]
        self.sample = self._cut(self.whole)
        self.exact = self._product(self.sample, self.weight)
        self.prepared: tuple[float | None, Tensor, Tensor, Tensor] | None = None

    def _cut(self, x: Tensor) -> Tensor:
        return x[:, :, self.window[0], self.window[1]] if self.conv else x

    def _product(self, x: Tensor, weight: Tensor) -> Tensor:
        if isinstance(self.layer, nn.Conv2d):
            return F.conv2d(x, weight, None, self.layer.stride, self.layer.padding)
        return x @ weight.t()

    def scale(self, exponent: float | None) -> Tensor:
        """s, [C]; ones without scaling."""
        if exponent is None:
            return torch.ones_like(self.statistics.largest)
        return channel_scale(self.statistics.largest, self.weight, exponent)

    def _by_channel(self, vector: Tensor) -> Tensor:
        return vector[:, None, None] if self.conv else vector

    def balanced(self, x: Tensor, exponent: float | None) -> Tensor:
        x = x / self._by_channel(self.scale(exponent))
        return rotate(x, self.rotation, 1 if self.conv else -1) if self.form.block > 1 else x

    def rounded(self, exponent: float | None) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """(codes, scale, down, up) of the balanced weight."""
        weight = self.weight * self._by_channel(self.scale(exponent))
        if self.form.block > 1:
            weight = rotate(weight, self.rotation, 1)
        down = up = None
        if self.form.rank:
            down, up = (t.half() for t in low_rank(weight, self.form.rank, self.form.seed))
            weight = weight - (up.float() @ down.flatten(1).float()).view_as(weight)
        if self.settings.clipping:
            scale = per_channel_scale(weight, self.form.weight_bits)
        else:
            largest = weight.flatten(1).abs().amax(1).clamp_min(1e-12) / largest_code(self.form.weight_bits)
            scale = largest.view(-1, *[1] * (weight.ndim - 1))
        return quantize(weight, scale, self.form.weight_bits), scale, down, up

    def error(self, exponent: float | None, clip: float) -> float:
        """Mean squared error of the output over its mean square."""
        if self.prepared is None or self.prepared[0] != exponent:
            codes, scale, down, up = self.rounded(exponent)
            branch = 0.0 if down is None or up is None else (up.float() @ down.flatten(1).float()).view_as(codes)
            balanced = self.balanced(self.whole, exponent)
            self.prepared = (exponent, dequantize(codes, scale), torch.as_tensor(branch), balanced)
        _, weight, branch_weight, x = self.prepared
        bits = self.form.activation_bits
        steps = per_image_scale(x, bits, clip) if self.conv else per_token_scale(x, bits, clip)
        sample = self._cut(x)
        output = self._product(dequantize(quantize(sample, steps, bits), steps), weight)
        if branch_weight.ndim:
            output = output + self._product(sample, branch_weight)
        return float((output - self.exact).square().mean() / self.exact.square().mean().clamp_min(1e-20))

    def build(self, exponent: float | None, form: LayerFormat) -> QuantLayer:
        """The low-bit layer, its tensors in the dtypes of storage."""
        codes, scale, down, up = self.rounded(exponent)
        built = empty_like(self.layer, form).to(self.weight.device)
        built.packed = pack(codes, form.weight_bits)
        built.weight_scale = scale.flatten()
        built.channel_scale = self.scale(exponent).reciprocal()
        if self.layer.bias is not None:
            built.bias = self.layer.bias.detach().float().clone()
        if down is not None and up is not None:
            # Contiguous, as a file will hold them: strides choose the order in which a product adds.
            built.down, built.up = down.contiguous(), up.contiguous()
        return built
