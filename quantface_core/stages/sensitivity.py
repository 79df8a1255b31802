"""Sensitivity: what each layer's width does to the restored picture (DESIGN.md section 3.4).

Every layer alone is put in at a probe width and the picture's error measured; how that error grows and
shrinks with the width follows from the layer's own output error at every width, weights and activations
apart, which costs a product each. What lies before a layer's part of the pipeline is computed once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..kernels.allocator import kept_memory
from ..kernels.quantize import BITS
from ..metrics import full_reference, ms_ssim
from ..nn.qlayer import QuantLayer
from ..nn.swap import quantizable
from ..restorer import OneStepRestorer
from ..types import LayerFormat, LayerSensitivity, QuantizeSettings, Sensitivity
from .calibrate import ChannelStatistics, Progress, listening
from .quantize import CLIPS, plan_formats, search
from .trial import LayerTrial

PROBE = 4  # bits of weights and activations at which the picture's error is measured
_MS_SSIM_SIZE = 160  # pixels: its coarsest scale's window must fit
_SEARCHED = 2  # images that a layer's own errors are measured on; the picture's are on all
_THOUSAND = 1000  # parts that progress is told in
_LAYER_BYTES = 4  # of a scale or a bias
_HALF = 2  # bytes of a float16


@kept_memory()
def measure_sensitivity(
    restorer: OneStepRestorer,
    statistics: Mapping[str, ChannelStatistics],
    images: Tensor,
    settings: QuantizeSettings | None = None,
    perceptual: str = "ms_ssim",
    progress: Progress | None = None,
) -> Sensitivity:
    """Measure a full-precision restorer on images [N, 3, S, S] in [-1, 1]; it stays as it is.

    `perceptual` names a full-reference metric. `progress` counts thousandths of the expected time. Raises
    UsageError.
    """
    settings = replace(settings or QuantizeSettings(), weight_bits=PROBE, activation_bits=PROBE)
    if len(images) == 0:
        raise UsageError("measuring needs at least one image")
    if perceptual == "ms_ssim" and restorer.config.image_size <= _MS_SSIM_SIZE:
        raise UsageError(f"MS-SSIM needs more than {_MS_SSIM_SIZE} pixels: choose another metric, such as ssim")
    formats = {name: form for name, form in plan_formats(restorer, settings).items() if name in statistics}
    layers = quantizable(restorer)
    probes: dict[str, QuantLayer] = {}
    widths: dict[str, tuple[dict[int, float], dict[int, float]]] = {}
    operations: dict[str, int] = {}

    def heard(name: str, layer: nn.Module, x: Tensor) -> None:
        if name in probes:
            return
        if progress:
            progress(_THOUSAND * len(probes) // (2 * len(formats)), _THOUSAND)
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        trial = LayerTrial(layer, formats[name], statistics[name], x[:_SEARCHED], settings)
        exponent, clip = search([trial], settings)
        probes[name] = trial.build(exponent, replace(formats[name], clip=clip))
        widths[name] = trial.width_errors(exponent, CLIPS if settings.clipping else (1.0,))
        operations[name] = _multiplications(layer, x)

    with listening({name: layers[name] for name in formats}, heard):
        restorer(images.to(restorer.device))

    judge = _Judge(restorer, images, perceptual)
    measured = {}
    for count, name in enumerate(formats):
        if progress:
            progress(
                _THOUSAND // 2 + int(judge.share(list(formats)[:count], list(formats)) * _THOUSAND) // 2, _THOUSAND
            )
        error, loss = judge.with_layer(name, probes[name])
        weights, activations = widths[name]
        whole = max(weights[PROBE] + activations[PROBE], 1e-20)
        measured[name] = LayerSensitivity(
            multiplications=operations[name],
            parameters=layers[name].weight.numel(),
            overhead=_overhead(layers[name], formats[name]),
            fixed=None if formats[name].weight_bits == PROBE else formats[name].weight_bits,
            weight={bits: weights[bits] / whole for bits in BITS},
            activation={bits: activations[bits] / whole for bits in BITS},
            error=error,
            perceptual=loss,
        )
    if progress:
        progress(_THOUSAND, _THOUSAND)
    low = sum(layers[name].weight.numel() + _bias(layers[name]) for name in formats)
    rest = _HALF * (sum(p.numel() for p in restorer.parameters()) - low)
    return Sensitivity(restorer.config.name, perceptual, rest, measured)


def _multiplications(layer: nn.Linear | nn.Conv2d, x: Tensor) -> int:
    """Multiply-accumulates an image."""
    if isinstance(layer, nn.Linear):
        return x[0].numel() // x.shape[-1] * layer.weight.numel()
    sides = [(x.shape[2 + i] + 2 * int(layer.padding[i]) - layer.kernel_size[i]) // layer.stride[i] + 1 for i in (0, 1)]
    return sides[0] * sides[1] * layer.weight.numel()


def _bias(layer: nn.Linear | nn.Conv2d) -> int:
    return 0 if layer.bias is None else layer.bias.numel()


def _overhead(layer: nn.Linear | nn.Conv2d, form: LayerFormat) -> int:
    """Bytes a stored layer takes beside its integers: scales, bias, branch."""
    outputs, channels = layer.weight.shape[:2]
    branch = _HALF * form.rank * (outputs + layer.weight[0].numel())
    return _LAYER_BYTES * (outputs + channels + _bias(layer)) + branch


class _Judge:
    """Pictures of a restorer with one layer replaced, against those of the restorer itself."""

    @torch.no_grad()
    def __init__(self, restorer: OneStepRestorer, images: Tensor, perceptual: str) -> None:
        self.restorer, self.images = restorer, images.to(restorer.device)
        self.metric, self.lower = (ms_ssim, False) if perceptual == "ms_ssim" else full_reference(perceptual)
        clock = [time.perf_counter()]

        def timed(value: Any) -> Any:
            clock.append(time.perf_counter())
            return value

        self.prompt = timed(restorer.embedder(self.images))
        self.latent = timed(restorer.encode(self.images))
        self.restored = timed(restorer.predict(self.latent, self.prompt))
        self.exact = timed(self._unit(restorer.decode(self.restored)))
        embed, encode, predict, decode = (b - a for a, b in pairwise(clock))
        self.seconds = {
            "embedder": embed + predict + decode,
            "encoder": encode + predict + decode,
            "unet": predict + decode,
            "decoder": decode,
        }

    def _unit(self, picture: Tensor) -> Tensor:
        return (picture.float() / 2 + 0.5).clamp(0, 1)

    def share(self, done: list[str], names: list[str]) -> float:
        """How much of the time is behind, 0 to 1."""
        return sum(self.seconds[_part(n)] for n in done) / sum(self.seconds[_part(n)] for n in names)

    @torch.no_grad()
    def with_layer(self, name: str, layer: QuantLayer) -> tuple[float, float]:
        """(squared error over the exact picture's variance, perceptual loss) with one layer replaced."""
        parent, _, child = name.rpartition(".")
        place = self.restorer.get_submodule(parent)
        before = place.get_submodule(child)
        place.register_module(child, layer)
        try:
            picture = self._unit(self._from_part(_part(name)))
        finally:
            place.register_module(child, before)
            layer._kernel = None  # prepacked for one use: a large model's would not fit together
        error = float((picture - self.exact).square().mean() / self.exact.var().clamp_min(1e-12))
        score = float(self.metric(picture, self.exact).mean())
        return error, max(0.0, score if self.lower else 1 - score)

    def _from_part(self, part: str) -> Tensor:
        model, restored = self.restorer, self.restored
        if part != "decoder":
            prompt = model.embedder(self.images) if part == "embedder" else self.prompt
            latent = model.encode(self.images) if part == "encoder" else self.latent
            restored = model.predict(latent, prompt)
        return model.decode(restored)


def _part(name: str) -> str:
    """The part of the pipeline a layer belongs to, by where its effect starts."""
    if name.startswith(("vae.", "paths.")):
        return "decoder" if name.startswith(("vae.decoder.", "vae.post_quant_conv", "paths.")) else "encoder"
    return name.split(".")[0]
