"""A one-step super-resolution pipeline built from diffusers classes: encoder, one UNet step, decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

import quantface_core as qf


class OneStepSR(nn.Module):
    """[B, 3, H, W] in [-1, 1] -> [B, 3, 2 H, 2 W]; one fixed step and one fixed prompt."""

    def __init__(self, unet: UNet2DConditionModel, vae: AutoencoderKL, prompt: Tensor, timestep: int = 399) -> None:
        super().__init__()
        self.unet, self.vae, self.timestep = unet, vae, timestep
        self.register_buffer("prompt", prompt)

    def forward(self, image: Tensor) -> Tensor:
        x = F.interpolate(image, scale_factor=2.0, mode="bicubic")
        latent = self.vae.encode(x).latent_dist.mode()
        noise = self.unet(latent, self.timestep, self.prompt.expand(len(x), -1, -1)).sample
        return self.vae.decode(latent - noise).sample


def build() -> nn.Module:
    """Narrow models with random weights; yours come from `from_pretrained`."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
    )
    return OneStepSR(unet, vae, torch.randn(1, 8, 32)).eval()


def batches(count: int = 3) -> list[Tensor]:
    return list(torch.rand(count, 1, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1)


def main() -> None:
    model = build()
    qf.quantize(model, batches(), qf.QuantConfig(rank=8), exclude=["*conv_in", "*conv_out", "unet.time_embedding"])
    qf.save_quantized(model, "sr-w4a4.safetensors")
    again = qf.load_quantized("sr-w4a4.safetensors", build())
    same = torch.equal(model(batches()[0]), again(batches()[0]))
    print(f"the loaded model's output is identical: {same}")


if __name__ == "__main__":
    main()
