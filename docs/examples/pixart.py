"""A diffusion transformer: diffusers' `PixArtTransformer2DModel`, whose norms have no affine weights."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import PixArtTransformer2DModel
from torch import nn

import quantface_core as qf


def build() -> nn.Module:
    """A narrow model with random weights; yours comes from `PixArtTransformer2DModel.from_pretrained`."""
    torch.manual_seed(0)
    return PixArtTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=16,
        num_layers=2,
        cross_attention_dim=64,
        caption_channels=32,
        sample_size=16,
    ).eval()


def batches(count: int = 3) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    return [
        {
            "hidden_states": torch.randn(1, 4, 16, 16, generator=generator),
            "encoder_hidden_states": torch.randn(1, 8, 32, generator=generator),
            "timestep": torch.tensor([399]),
            "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},  # of PixArt-alpha; diffusers 0.30 asks
        }
        for _ in range(count)
    ]


def main() -> None:
    model = build()
    qf.quantize(model, batches(), qf.QuantConfig(rank=8), include=["transformer_blocks"])
    qf.save_quantized(model, "pixart-w4a4.safetensors")
    again = qf.load_quantized("pixart-w4a4.safetensors")
    same = torch.equal(model(**batches()[0]).sample, again(**batches()[0]).sample)
    print(f"the loaded model's output is identical: {same}")


if __name__ == "__main__":
    main()
