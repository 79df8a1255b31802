"""Feature paths from the encoder to the decoder: detail that a latent has no room for goes around it.

The idea is that of controllable feature wrapping (StableSR, arXiv 2305.07015, section 3.2): at every resolution the
decoder is given the encoder's map and learns what of it to take. A fresh path adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch.nn.functional as F
from diffusers.models.autoencoders.vae import Decoder, Encoder
from torch import Tensor, nn

Maps = tuple[Tensor, ...]
"""The encoder's maps, finest first; empty where a restorer has no feature paths."""


class FeaturePath(nn.Module):
    """One resolution's path: the decoder's map plus what it takes of the encoder's."""

    def __init__(self, encoder_channels: int, decoder_channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(encoder_channels, encoder_channels, 1)
        self.expand = nn.Conv2d(encoder_channels, decoder_channels, 3, padding=1)
        nn.init.zeros_(self.expand.weight)
        nn.init.zeros_(self.expand.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, encoder_map: Tensor) -> Tensor:
        """[B, D, H, W] and the encoder's [B, E, H, W] -> [B, D, H, W]."""
        taken: Tensor = self.expand(F.silu(self.reduce(encoder_map)))
        return x + taken


class FeaturePaths(nn.ModuleList):
    """A path for every resolution, coarsest first as the decoder passes them; none when disabled."""

    def __init__(self, vae: Mapping[str, Any], enabled: bool) -> None:
        widths = list(reversed(vae["block_out_channels"])) if enabled else []
        super().__init__(FeaturePath(width, widths[max(0, i - 1)]) for i, width in enumerate(widths))


class DownBlock(nn.Module):
    """diffusers' `DownEncoderBlock2D`, with its names, that gives its map before it is halved as well."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.resnets, self.downsamplers = block.resnets, block.downsamplers

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, H, W] -> (the block's output, its map at full resolution)."""
        for resnet in self.resnets:  # type: ignore[union-attr]
            x = resnet(x, None)
        full = x
        for downsampler in self.downsamplers or ():  # type: ignore[union-attr]
            x = downsampler(x)
        return x, full


def expose_maps(encoder: Encoder) -> None:
    """Replace an encoder's down blocks by such as give their maps, in place."""
    encoder.down_blocks = nn.ModuleList(DownBlock(block) for block in encoder.down_blocks)


def encode_with_maps(encoder: Encoder, image: Tensor) -> tuple[Tensor, Maps]:
    """`Encoder.forward` of an encoder whose maps are exposed: image -> (hidden map, its maps, finest first)."""
    x, maps = encoder.conv_in(image), []
    for block in encoder.down_blocks:
        x, full = block(x)
        maps.append(full)
    x = encoder.mid_block(x)
    return encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(x))), tuple(maps)


def decode_with_maps(decoder: Decoder, paths: Iterable[nn.Module], hidden: Tensor, maps: Maps) -> Tensor:
    """`Decoder.forward` with every up block given the encoder's map of its resolution."""
    x = decoder.mid_block(decoder.conv_in(hidden), None)
    for block, path, encoder_map in zip(decoder.up_blocks, paths, reversed(maps), strict=True):
        x = block(path(x, encoder_map), None)
    picture: Tensor = decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(x)))
    return picture
