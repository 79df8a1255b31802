"""A standalone autoencoder: diffusers' `AutoencoderKL`, of which the decoder is quantized."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

import quantface_core as qf


def build() -> nn.Module:
    """A narrow model with random weights; yours comes from `AutoencoderKL.from_pretrained`."""
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
    ).eval()


def batches(count: int = 3) -> list[Tensor]:
    return list(torch.rand(count, 1, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1)


def main() -> None:
    model = build()
    qf.quantize(model, batches(), qf.QuantConfig(weight_bits=8, activation_bits=8, rank=0), include=["decoder"])
    qf.save_quantized(model, "decoder-w8a8.safetensors")
    again = qf.load_quantized("decoder-w8a8.safetensors")
    same = torch.equal(model(batches()[0]).sample, again(batches()[0]).sample)
    print(f"the loaded model's output is identical: {same}")


if __name__ == "__main__":
    main()
