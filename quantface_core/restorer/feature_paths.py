"""Feature paths from encoder to decoder: skip connections that carry the detail a latent cannot hold.

The idea is that of controllable feature wrapping (StableSR, arXiv 2305.07015, section 3.2): at every resolution the
decoder receives the encoder's map and learns what to take from it. A newly initialised path adds nothing.
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
    """The path of one resolution: adds a learned function of the encoder's map to the decoder's."""

    def __init__(self, encoder_channels: int, decoder_channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(encoder_channels, encoder_channels, 1)
        self.expand = nn.Conv2d(encoder_channels, decoder_channels, 3, padding=1)
        nn.init.zeros_(self.expand.weight)
        nn.init.zeros_(self.expand.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, encoder_map: Tensor) -> Tensor:
        """Decoder map [B, D, H, W], encoder map [B, E, H, W] -> [B, D, H, W]."""
        taken: Tensor = self.expand(F.silu(self.reduce(encoder_map)))
        return x + taken


class FeaturePaths(nn.ModuleList):
    """A path per resolution, coarsest first, in the decoder's order; empty when disabled."""

    def __init__(self, vae: Mapping[str, Any], enabled: bool) -> None:
        widths = list(reversed(vae["block_out_channels"])) if enabled else []
        super().__init__(FeaturePath(width, widths[max(0, i - 1)]) for i, width in enumerate(widths))


class DownBlock(nn.Module):
    """diffusers' `DownEncoderBlock2D`, with the same submodule names, that also returns its map before downsampling."""

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
    """Replace an encoder's down blocks by `DownBlock`s, which also return their maps, in place."""
    encoder.down_blocks = nn.ModuleList(DownBlock(block) for block in encoder.down_blocks)


def encode_with_maps(encoder: Encoder, image: Tensor) -> tuple[Tensor, Maps]:
    """`Encoder.forward` after `expose_maps`: image [B, 3, H, W] -> (the encoder's output, its maps, finest first)."""
    x, maps = encoder.conv_in(image), []
    for block in encoder.down_blocks:
        x, full = block(x)
        maps.append(full)
    x = encoder.mid_block(x)
    return encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(x))), tuple(maps)


def decode_with_maps(decoder: Decoder, paths: Iterable[nn.Module], hidden: Tensor, maps: Maps) -> Tensor:
    """`Decoder.forward` that adds the encoder's maps, through `paths`, to the inputs of its up blocks."""
    x = decoder.mid_block(decoder.conv_in(hidden), None)
    for block, path, encoder_map in zip(decoder.up_blocks, paths, reversed(maps), strict=True):
        x = block(path(x, encoder_map), None)
    picture: Tensor = decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(x)))
    return picture
