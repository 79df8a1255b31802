"""Stable Diffusion's UNet on its own: diffusers' `UNet2DConditionModel`."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn

import quantface_core as qf


def build() -> nn.Module:
    """A narrow model with random weights; yours comes from `UNet2DConditionModel.from_pretrained`."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
    ).eval()


def batches(count: int = 3) -> list[dict[str, Any]]:
    """Keyword arguments of the model: noisy latents, the timestep, the text encoder's output."""
    generator = torch.Generator().manual_seed(1)
    return [
        {
            "sample": torch.randn(1, 4, 16, 16, generator=generator),
            "timestep": torch.tensor(399),
            "encoder_hidden_states": torch.randn(1, 8, 32, generator=generator),
        }
        for _ in range(count)
    ]


def main() -> None:
    model, edges = build(), ["conv_in", "conv_out", "time_embedding"]
    plan = qf.allocate(model, batches(1), qf.Budget(activation_bits=4.5, weight_bits=4.5), exclude=edges)
    reports = qf.quantize(model, batches(), qf.QuantConfig(rank=8), exclude=edges, plan=plan)
    qf.save_quantized(model, "unet-mixed.safetensors")
    again = qf.load_quantized("unet-mixed.safetensors")  # a diffusers class, built from the file
    same = torch.equal(model(**batches()[0]).sample, again(**batches()[0]).sample)
    print(f"{len(reports)} layers quantized; the loaded model's output is identical: {same}")


if __name__ == "__main__":
    main()
