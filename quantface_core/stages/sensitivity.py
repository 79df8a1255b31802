"""Sensitivities of a restorer, measured on its output images; stages before a layer's own run only once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..metrics import full_reference
from ..nn.qlayer import QuantLayer
from ..quant.observe import ChannelStatistics
from ..quant.sensitivity import PROBE_BITS, Judge, measure_layers, replaced_layer
from ..restorer import OneStepRestorer, RestorerModel
from ..restorer.by_stages import stage_of
from ..types import Progress, RestorerQuantConfig, Sensitivity, silent
from .quantize import restorer_formats

_MS_SSIM_SIZE = 160  # pixels: its coarsest scale's window must fit


def measure_sensitivity(
    restorer: RestorerModel,
    statistics: Mapping[str, ChannelStatistics],
    images: Tensor,
    config: RestorerQuantConfig | None = None,
    perceptual: str = "ms_ssim",
    progress: Progress = silent,
) -> Sensitivity:
    """Measure a full-precision restorer on calibration images [N, 3, S, S] in [-1, 1]; it is left unchanged.

    `perceptual` names a full-reference metric. `progress` counts thousandths of the expected time. Raises UsageError,
    ConfigError.
    """
    config = replace(config or RestorerQuantConfig(), weight_bits=PROBE_BITS, activation_bits=PROBE_BITS)
    if len(images) == 0:
        raise UsageError("measuring needs at least one image")
    if perceptual == "ms_ssim" and restorer.image_size <= _MS_SSIM_SIZE:
        raise UsageError(f"MS-SSIM needs more than {_MS_SSIM_SIZE} pixels: choose another metric, such as ssim")
    formats = restorer_formats(restorer, config)
    judging = PictureJudge if isinstance(restorer, OneStepRestorer) else WholePictureJudge
    judge = judging(restorer, images, perceptual)
    return measure_layers(
        restorer,
        statistics,
        [images],
        formats,
        config,
        name=restorer.config.name,
        judge=judge,
        dtype=restorer.file_dtype,
        progress=progress,
    )


class WholePictureJudge(Judge):
    """Compares the output images of a restorer in which one layer is replaced with those of the restorer itself."""

    exact: Tensor

    def __init__(self, restorer: Any, images: Tensor, perceptual: str) -> None:
        self.restorer, self.images = restorer, images.to(restorer.device)
        self.metric = perceptual
        self.perceptual = full_reference(perceptual)
        self._prepare()

    @torch.no_grad()
    def _prepare(self) -> None:
        self.exact = self._unit(self.restorer(self.images))

    def _unit(self, picture: Tensor) -> Tensor:
        return (picture.float() / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def with_layer(self, name: str, layer: QuantLayer) -> tuple[float, float]:
        """(squared error over the exact images' variance, perceptual loss) with layer `name` replaced by `layer`."""
        with replaced_layer(self.restorer, name, layer):
            picture = self._unit(self._picture(name))
        error = float((picture - self.exact).square().mean() / self.exact.var().clamp_min(1e-12))
        score = float(self.perceptual(picture, self.exact).mean())
        return error, max(0.0, self.perceptual.loss(score))

    def _picture(self, name: str) -> Tensor:
        """Output images [N, 3, S, S] with this layer replaced."""
        picture: Tensor = self.restorer(self.images)
        return picture


class PictureJudge(WholePictureJudge):
    """The same for a one-step restorer, of which only the layer's stage and those after it run."""

    @torch.no_grad()
    def _prepare(self) -> None:
        restorer = self.restorer
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

    def share(self, done: Sequence[str], names: Sequence[str]) -> float:
        return sum(self.seconds[stage_of(n)] for n in done) / sum(self.seconds[stage_of(n)] for n in names)

    def _picture(self, name: str) -> Tensor:
        model, restored, stage = self.restorer, self.restored, stage_of(name)
        if stage != "decoder":
            prompt = model.embedder(self.images) if stage == "embedder" else self.prompt
            latent = model.encode(self.images) if stage == "encoder" else self.latent
            restored = model.predict(latent, prompt)
        picture: Tensor = model.decode(restored)
        return picture
