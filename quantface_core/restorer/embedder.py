"""The visual representation embedder: maps a degraded face to a visual prompt (docs/method.md, section 1).

A VQ-VAE encoder turns the image into positions, each position is assigned its nearest code, and the distinct codes
with the smallest distances become the prompt of the UNet's cross-attention. Attribute names follow the layout of
OSDFace's published weights, so that converting them only renames prefixes.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn.fused import conv_add, fuses, norm_act, norm_conv
from .configs import EmbedderConfig


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


def _silu(x: Tensor) -> Tensor:
    """SiLU of a norm's output: in place, because nothing else uses that output, unless gradients need it."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


class ResnetBlock(nn.Module):
    """Two norm-SiLU-conv steps with a skip connection: [B, C_in, H, W] -> [B, C_out, H, W]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = _norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = _norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if in_channels != out_channels:
            self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = norm_conv(self.conv1, self.norm1, _silu, x)
        skip = self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x
        if fuses(self.conv2):
            return norm_conv(self.conv2, self.norm2, _silu, h, skip=skip)
        return skip + self.conv2(norm_act(self.norm2, _silu, h))


class Attention(nn.Module):
    """Single-head self-attention over positions, pre-norm, with a skip: [B, C, H, W] -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = _norm(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        q, k, v = (f(h).flatten(2).transpose(1, 2) for f in (self.q, self.k, self.v))
        attended = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return conv_add(self.proj_out, attended.transpose(1, 2).unflatten(2, x.shape[2:]), x)


class Downsample(nn.Module):
    """Halves the resolution: zero padding on the right and bottom only, then a stride-2 convolution.

    [B, C, H, W] -> [B, C, H/2, W/2].
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Level(nn.Module):
    """Residual blocks of one resolution, each followed by attention if `attend`, then downsampling unless `last`."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int, attend: bool, last: bool) -> None:
        super().__init__()
        widths = [in_channels] + [out_channels] * blocks
        self.block = nn.ModuleList(ResnetBlock(a, b) for a, b in itertools.pairwise(widths))
        self.attn = nn.ModuleList(Attention(out_channels) for _ in range(blocks if attend else 0))
        if not last:
            self.downsample = Downsample(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[i](x)
        return self.downsample(x) if hasattr(self, "downsample") else x


class Middle(nn.Module):
    """Residual block, attention, residual block: [B, C, H, W] -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels)
        self.attn_1 = Attention(channels)
        self.block_2 = ResnetBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    """The VQ-VAE encoder: [B, 3, S, S] -> [B, latent_channels, S / 2^(levels-1), same]."""

    def __init__(self, config: EmbedderConfig) -> None:
        super().__init__()
        widths = [config.base_channels * m for m in (1, *config.channel_multipliers)]
        levels = len(config.channel_multipliers)
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            Level(
                widths[i],
                widths[i + 1],
                config.blocks_per_level,
                attend=config.image_size >> i == config.attention_resolution,
                last=i == levels - 1,
            )
            for i in range(levels)
        )
        self.mid = Middle(widths[-1])
        self.norm_out = _norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(norm_act(self.norm_out, _silu, self.mid(x)))


class PromptProjection(nn.Module):
    """Two 1x1 convolutions over tokens, each followed by SiLU: [B, T, C_code] -> [B, T, C_prompt]."""

    def __init__(self, code_channels: int, prompt_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(code_channels, code_channels // 2, 1)
        self.conv2 = nn.Conv1d(code_channels // 2, prompt_channels, 1)

    def forward(self, codes: Tensor) -> Tensor:
        h = F.silu(self.conv1(codes.transpose(1, 2)))
        # Channels of a token contiguous in memory: every cross-attention layer of the UNet reads the prompt.
        return F.silu(self.conv2(h)).transpose(1, 2).contiguous()


def first_distinct(codes: Tensor, distances: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Choose the `count` distinct codes with the smallest distances, nearest first.

    codes: [B, P] int64, the nearest code of each position; distances: [B, P], to that code.
    Returns (positions [B, n] int64, found [B, n] bool), n = min(count, P): the position at which each chosen code
    was nearest, and False in the places an image with fewer distinct codes cannot fill. Ties go to the earlier
    position. Vectorised: a position is kept when no closer one has the same code.
    """
    order = distances.argsort(dim=1, stable=True)
    voted = codes.gather(1, order)
    earlier = torch.ones(voted.shape[1], voted.shape[1], dtype=torch.bool, device=codes.device).tril(-1)
    repeated = ((voted[:, :, None] == voted[:, None, :]) & earlier).any(dim=2)
    # A stable sort of the flags moves first occurrences to the front and keeps them sorted by distance.
    rank = repeated.to(torch.uint8).argsort(dim=1, stable=True)[:, :count]
    return order.gather(1, rank), ~repeated.gather(1, rank)


class Embedder(nn.Module):
    """Low-quality image [B, 3, H, W] in [-1, 1] -> visual prompt [B, tokens, prompt_channels]."""

    def __init__(self, config: EmbedderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quant_conv = nn.Conv2d(config.latent_channels, config.code_channels, 1)
        # The original's initialisation; training moves it, loading overwrites it. Not by `nn.Embedding`, whose own,
        # on the meta device, loads torch's compiler.
        book = torch.empty(config.codes, config.code_channels).uniform_(-1.0 / config.codes, 1.0 / config.codes)
        self.codebook = nn.Embedding.from_pretrained(book, freeze=False)
        self.projection = PromptProjection(config.code_channels, config.prompt_channels)

    def positions(self, image: Tensor) -> Tensor:
        """Encode to one vector per position: [B, 3, H, W] in [-1, 1] -> [B, P, code_channels], P = h * w."""
        size = (self.config.image_size, self.config.image_size)
        x = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        # Normalised again although already in [-1, 1]: a quirk of the original that its weights expect.
        x = (x - 0.5) / 0.5
        return self.quant_conv(self.encoder(x)).flatten(2).transpose(1, 2)

    def nearest(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Positions [B, P, C] -> (nearest code int64, squared distance to it float32), both [B, P]."""
        x, book = positions.float(), self.codebook.weight.float()
        distances = x.square().sum(2, keepdim=True) + book.square().sum(1) - 2 * x @ book.t()
        distance, code = distances.min(dim=2)
        return code, distance

    def prompt(self, positions: Tensor) -> Tensor:
        """Quantize positions and project the nearest distinct codes: [B, P, C] -> [B, tokens, prompt_channels].

        Where there are too few codes, zeros are projected instead.
        """
        code, distance = self.nearest(positions)
        chosen, found = first_distinct(code, distance, self.config.tokens)
        vectors = self.codebook(code.gather(1, chosen)).to(positions.dtype)
        if self.training:
            # Straight-through: gradients reach the encoder although the choice of codes is discrete.
            picked = positions.gather(1, chosen[:, :, None].expand(-1, -1, positions.shape[2]))
            vectors = vectors + picked - picked.detach()
        vectors = vectors * found[:, :, None]
        missing = self.config.tokens - vectors.shape[1]
        return self.projection(F.pad(vectors, (0, 0, 0, missing)))

    def forward(self, image: Tensor) -> Tensor:
        return self.prompt(self.positions(image))
