"""GFPGAN, RestoreFormer and CodeFormer behind the common interface of all restorers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UsageError
from ...nn.channels_last_norm import replace_norms
from ...nn.replace import replace_modules
from ..images import postprocess, preprocess
from ..interface import RestorerModel
from ..seeded_noise import seeded_noise
from ..upsample import Upsample
from .architectures import network
from .attention import SplitAttention
from .codebook import Codebook
from .config import SpandrelConfig
from .modulated import ModulatedConv

_FIDELITY = 0.5  # the default of CodeFormer's authors
_SLOPE = 0.2  # of GFPGAN's leaky ReLUs
_EDGES = {
    "GFPGAN": ("conv_body_first", ".to_rgb", ".modulation"),
    "RestoreFormer": ("conv_in", "conv_out", "quant_conv"),
    "CodeFormer": ("network.encoder.blocks.0", "network.generator.blocks.{last}", "idx_pred_layer"),
}


class SpandrelRestorer(RestorerModel):
    """A spandrel network in which every matrix product is a linear or convolution that can be quantized.

    Products that cannot be quantized are replaced by equivalents: attention with fused projections, StyleGAN's
    modulated convolutions, code look-up by one-hot rows. Layers that the restored image does not depend on are removed.
    """

    family = "spandrel"
    file_dtype = torch.float32  # little is left besides the integers, and the choice of codes depends on it
    config: SpandrelConfig

    def __init__(self, config: SpandrelConfig, published: nn.Module | None = None) -> None:
        """`published` is a network in spandrel's layout, which is converted in place; None = random weights.

        Raises ModelError when spandrel is needed and missing.
        """
        super().__init__()
        self.config, self.licence = config, config.licence
        self.network: Any = published or network(config)
        if config.architecture == "GFPGAN":
            _without_unused(self.network)
        replace_modules(self, _replacement)
        replace_norms(self)
        self.edge_layers = _edges(config.architecture, self.network)
        self.fidelity = _FIDELITY if config.architecture == "CodeFormer" else None

    def forward(self, image: Tensor, seeds: Sequence[int] | None = None, fidelity: float | None = None) -> Tensor:
        """As `RestorerModel`. `fidelity` is for CodeFormer alone: 0 = best looking, 1 = closest to the input.

        With seeds, GFPGAN's noise is drawn; without, that stored in its file is used. Raises ImageError, UsageError.
        """
        return postprocess(self.outputs(image, seeds, fidelity)[0])

    def outputs(
        self, image: Tensor, seeds: Sequence[int] | None = None, fidelity: float | None = None
    ) -> tuple[Tensor, ...]:
        """(image [B, 3, S, S], not clamped; for CodeFormer also the logits of codes). Raises ImageError, UsageError."""
        if fidelity is not None and self.fidelity is None:
            raise UsageError(f"{self.config.name} has no fidelity setting: leave it unset")
        if fidelity is not None and not 0 <= fidelity <= 1:
            raise UsageError(f"fidelity must be between 0 and 1, got {fidelity}")
        x = preprocess(image, seeds, self.config.image_size).to(self.dtype)
        if self.config.architecture == "GFPGAN":
            return (self._gfpgan(x, seeds),)
        if self.config.architecture == "RestoreFormer":
            return (self.network(x)[0],)
        picture, scores = self.network(x, weight=self.fidelity if fidelity is None else fidelity)
        return picture, scores

    def _gfpgan(self, x: Tensor, seeds: Sequence[int] | None) -> Tensor:
        """The network's own `forward`, but for any memory layout, and with given noise instead of the global RNG's."""
        net, skips = self.network, []
        x = F.leaky_relu(net.conv_body_first(x), _SLOPE)
        for down in net.conv_body_down:
            x = down(x)
            skips.append(x)
        x = F.leaky_relu(net.final_conv(x), _SLOPE)
        style = net.final_linear(x.flatten(1))
        if net.different_w:
            style = style.unflatten(1, (-1, net.num_style_feat))
        conditions = []
        for skip, up, scale, shift in zip(
            reversed(skips), net.conv_body_up, net.condition_scale, net.condition_shift, strict=True
        ):
            x = up(x + skip)
            conditions += [scale(x), shift(x)]
        noise = list(net.stylegan_decoder.noises.buffers())
        if seeds is not None:
            drawn = seeded_noise(seeds, [buffer.shape[1:] for buffer in noise])
            noise = [new.to(buffer) for new, buffer in zip(drawn, noise, strict=True)]
        picture: Tensor = net.stylegan_decoder([style], conditions, input_is_latent=net.input_is_latent, noise=noise)[0]
        return picture


def _edges(architecture: str, network: Any) -> tuple[str, ...]:
    last = len(network.generator.blocks) - 1 if architecture == "CodeFormer" else 0
    return tuple(pattern.format(last=last) for pattern in _EDGES[architecture])


def _without_unused(gfpgan: Any) -> None:
    """Remove layers the output does not depend on: RGB outputs of earlier stages, and a bypassed style MLP."""
    gfpgan.toRGB = nn.ModuleList()
    if gfpgan.input_is_latent:
        gfpgan.stylegan_decoder.style_mlp = nn.Identity()


def _replacement(module: Any) -> nn.Module | None:
    """The replacement for a spandrel module, told by its class name, which all releases share; None = keep it."""
    kind = type(module).__name__
    if kind == "ModulatedConv2d":
        return ModulatedConv(module)
    if kind == "VectorQuantizer":
        return Codebook(module)
    if type(module) is nn.MultiheadAttention:
        return SplitAttention(module)
    return Upsample(module.conv) if kind == "Upsample" and hasattr(module, "conv") else None
