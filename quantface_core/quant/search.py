"""One layer in low bits: the balance, clip and rounding that keep its own output (DESIGN.md sections 3.1 to 3.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.balance import channel_scale, low_rank
from ..kernels.bitpack import pack
from ..kernels.hadamard import Rotation, rotate
from ..kernels.quantize import (
    dequantize,
    largest_code,
    per_channel_scale,
    per_image_scale,
    per_token_scale,
    quantize,
)
from ..nn.qlayer import QuantLayer
from ..nn.swap import Layer, empty_like
from ..types import BITS, LayerFormat, LayerReport, QuantConfig
from .compensate import compensated_codes
from .observe import ChannelStatistics, rows_of
from .rounding_sample import sample_rows

EXPONENTS = (None, 0.25, 0.5, 0.75)  # of the scaling; None = no scaling
CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)  # of activations
_TOKENS = 1024  # rows of a linear's input that a search looks at
_MEASURED = {BITS.start: 0.0, 4: 0.0, 6: 0.8, 8: 1.0}  # width: the least clipping ratio that can pay off there
_IMAGES = 2  # of a convolution's input that a search looks at: more is slower and hardly better
_WINDOW = 128  # pixels, side of the window of a convolution's input that a search looks at


class LayerSearch:
    """One layer's weight and a sample of its input."""

    def __init__(
        self,
        layer: Layer,
        fmt: LayerFormat,
        statistics: ChannelStatistics,
        x: Tensor,
        config: QuantConfig,
        consumers: Tensor | None = None,
    ) -> None:
        """consumers: [O', C, ...] the weights of all layers that balance x together, None = this one's."""
        self.layer, self.fmt, self.statistics, self.config = layer, fmt, statistics, config
        self.weight = layer.weight.detach().float()
        self.consumers = self.weight if consumers is None else consumers.detach().float()
        self.conv = isinstance(layer, nn.Conv2d)
        self.rotation = Rotation(self.weight.shape[1], fmt.block, fmt.seed)
        generator = torch.Generator().manual_seed(fmt.seed)
        x = x.detach().float()
        if self.conv:
            # The scale is the whole image's, so the search keeps where the window was cut from.
            tops = [int(torch.randint(max(1, side - _WINDOW + 1), (1,), generator=generator)) for side in x.shape[2:]]
            self.every, self.whole = x, x[:_IMAGES]
            self.window = (slice(tops[0], tops[0] + _WINDOW), slice(tops[1], tops[1] + _WINDOW))
        else:
            self.every = rows = rows_of(layer, x)
            self.whole = rows[torch.randperm(len(rows), generator=generator)[:_TOKENS].to(rows.device)]
        self.sample = self._cut(self.whole)
        self.exact = self._product(self.sample, self.weight)
        self.parts: tuple[float | None, Tensor, Tensor | None, Tensor | None] | None = None
        self.prepared: tuple[float | None, Tensor, Tensor, Tensor, Tensor] | None = None

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
        return channel_scale(self.statistics.largest, self.consumers, exponent)

    def _by_channel(self, vector: Tensor) -> Tensor:
        return vector[:, None, None] if self.conv else vector

    def balanced(self, x: Tensor, exponent: float | None) -> Tensor:
        return rotate(x / self._by_channel(self.scale(exponent)), self.rotation, 1 if self.conv else -1)

    def _balanced_sample(self, whole: Tensor, exponent: float | None) -> tuple[Tensor, Tensor]:
        """A balanced sample, and what its activation scales are measured on: itself, or each image's largest."""
        if not self.conv:
            sample = self.balanced(whole, exponent)
            return sample, sample
        # One image at a time, of which little is kept: at a picture's size a map takes hundreds of megabytes.
        samples, largest = [], []
        for image in whole.split(1):
            balanced = self.balanced(image, exponent)
            samples.append(self._cut(balanced).clone())
            largest.append(torch.stack(torch.aminmax(balanced)).abs().max())
        return torch.cat(samples), torch.stack(largest).view(-1, 1, 1, 1)

    def split(self, exponent: float | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """(what is to be rounded, down, up) of the balanced weight; the last exponent's is kept."""
        if self.parts is None or self.parts[0] != exponent:
            weight = rotate(self.weight * self._by_channel(self.scale(exponent)), self.rotation, 1)
            down = up = None
            if self.fmt.rank:
                down, up = (t.half() for t in low_rank(weight, self.fmt.rank, self.fmt.seed))
                weight = weight - _product_of(down, up, weight)
            self.parts = (exponent, weight, down, up)
        return self.parts[1:]

    def rounded(self, exponent: float | None, bits: int | None = None) -> tuple[Tensor, Tensor]:
        """(codes, scale) of what the branch leaves, at the format's width or another."""
        bits, weight = bits or self.fmt.weight_bits, self.split(exponent)[0]
        if self.config.clipping:
            scale = per_channel_scale(weight, bits)
        else:
            largest = weight.flatten(1).abs().amax(1).clamp_min(1e-12) / largest_code(bits)
            scale = largest.view(-1, *[1] * (weight.ndim - 1))
        return quantize(weight, scale, bits), scale

    def compensated(self, exponent: float | None, clip: float) -> tuple[Tensor, Tensor]:
        """As `rounded` at the format's width, the codes such that their errors cancel in the output."""
        codes, scale = self.rounded(exponent)
        weight, (x, measured) = self.split(exponent)[0], self._balanced_sample(self.every, exponent)
        inputs = self._rounded_sample(x, measured, self.fmt.activation_bits, clip)
        sample = sample_rows(self.layer, inputs, self._product(x, weight), self.fmt.seed)
        # Apple's GPUs have not all of the factorizations.
        device = x.device if x.device.type == "cuda" else torch.device("cpu")
        flat = (weight.flatten(1).to(device), scale.flatten(1).to(device))
        compensated = compensated_codes(*flat, self.fmt.weight_bits, sample.to(device))
        return compensated.view_as(codes).to(codes.device), scale

    def error(self, exponent: float | None, clip: float) -> float:
        """Mean squared error of the output over its mean square."""
        if self.prepared is None or self.prepared[0] != exponent:
            self._prepare(exponent, *self.rounded(exponent))
        assert self.prepared
        _, weight, branch_weight, x, measured = self.prepared
        output = self._product(self._rounded_sample(x, measured, self.fmt.activation_bits, clip), weight)
        if branch_weight.ndim:
            output = output + self._product(x, branch_weight)
        return self._relative(output)

    def _prepare(self, exponent: float | None, codes: Tensor, scale: Tensor) -> None:
        _, down, up = self.split(exponent)
        branch = torch.as_tensor(0.0 if down is None or up is None else _product_of(down, up, codes))
        self.prepared = (exponent, dequantize(codes, scale), branch, *self._balanced_sample(self.whole, exponent))

    def width_errors(self, exponent: float | None, clips: Sequence[float]) -> tuple[dict[int, float], dict[int, float]]:
        """(weight, activation) error of the output by width, each with the other exact; the best clip of each.

        A few widths are measured; those between fall as a constant factor a bit.
        """
        residual, (x, measured) = self.split(exponent)[0], self._balanced_sample(self.whole, exponent)
        weights, activations = {}, {}
        for bits, worth in _MEASURED.items():
            change = dequantize(*self.rounded(exponent, bits)) - residual
            weights[bits] = self._relative(self.exact + self._product(x, change))
            # The branch reads what is not rounded: only the residual meets the rounding's error.
            changes = (self._rounded_sample(x, measured, bits, clip) - x for clip in clips if clip >= worth)
            activations[bits] = min(self._relative(self.exact + self._product(c, residual)) for c in changes)
        return _between(weights), _between(activations)

    def _rounded_sample(self, x: Tensor, measured: Tensor, bits: int, clip: float) -> Tensor:
        steps = per_image_scale(measured, bits, clip) if self.conv else per_token_scale(measured, bits, clip)
        return dequantize(quantize(x, steps, bits), steps)

    def _relative(self, output: Tensor) -> float:
        return float((output - self.exact).square().mean() / self.exact.square().mean().clamp_min(1e-20))

    def build(self, exponent: float | None, fmt: LayerFormat) -> QuantLayer:
        """The low-bit layer, its tensors in the dtypes of storage; `error` at its exponent is its own from here on."""
        _, down, up = self.split(exponent)
        compensated = self.config.rounding == "compensated"
        codes, scale = self.compensated(exponent, fmt.clip) if compensated else self.rounded(exponent)
        self._prepare(exponent, codes, scale)
        built = empty_like(self.layer, fmt).to(self.weight.device)
        built.packed = pack(codes, fmt.weight_bits)
        built.weight_scale = scale.flatten()
        built.channel_scale = self.scale(exponent).reciprocal()
        if self.layer.bias is not None:
            built.bias = self.layer.bias.detach().float().clone()
        if down is not None and up is not None:
            # Contiguous, as a file will hold them: strides choose the order in which a product adds.
            built.down, built.up = down.contiguous(), up.contiguous()
        return built


def _product_of(down: Tensor, up: Tensor, like: Tensor) -> Tensor:
    """The branch as one weight."""
    return (up.float() @ down.flatten(1).float()).view_as(like)


def _between(measured: dict[int, float]) -> dict[int, float]:
    """Every width's error, from those measured, by geometric interpolation."""
    known = sorted(measured)
    errors = {}
    for bits in BITS:
        low, high = max(b for b in known if b <= bits), min(b for b in known if b >= bits)
        share = (bits - low) / max(high - low, 1)
        errors[bits] = measured[low] ** (1 - share) * measured[high] ** share
    return errors


def search(layers: Sequence[LayerSearch], config: QuantConfig) -> tuple[float | None, float]:
    """The (exponent, clipping ratio) of least output error in all, of those the config allows."""

    def error(exponent: float | None, clip: float) -> float:
        return sum(layer.error(exponent, clip) for layer in layers)

    best = None
    if config.scaling:
        best = min(EXPONENTS, key=lambda a: error(a, 0.8 if config.clipping else 1.0))
    return best, min(CLIPS, key=lambda c: error(best, c)) if config.clipping else 1.0


def quantize_group(
    layers: Mapping[str, Layer],
    formats: Mapping[str, LayerFormat],
    statistics: ChannelStatistics,
    x: Tensor,
    config: QuantConfig,
) -> list[tuple[QuantLayer, LayerReport]]:
    """Search one exponent and one clip for layers that read x, by their output errors, then round their weights."""
    consumers = torch.cat([layer.weight for layer in layers.values()]) if len(layers) > 1 else None
    searches = {n: LayerSearch(layer, formats[n], statistics, x, config, consumers) for n, layer in layers.items()}
    best, clip = search(list(searches.values()), config)
    chosen = {name: replace(formats[name], clip=clip) for name in layers}
    found = {name: (one.build(best, chosen[name]), one.error(best, clip)) for name, one in searches.items()}
    searches.clear()  # a picture's maps: not two layers' at once
    outliers = float(statistics.largest.max()) / float(statistics.largest.median().clamp_min(1e-12))
    results = []
    for name, (built, error) in found.items():
        plain = replace(chosen[name], block=1, rank=0)
        before = LayerSearch(layers[name], plain, statistics, x, replace(config, clipping=False)).error(None, 1.0)
        shape = tuple(layers[name].weight.shape)
        results.append((built, LayerReport(name, shape, chosen[name], best, outliers, before, error)))
    return results
