"""Random weights in the exact file formats of OSDFace's authors and of Stable Diffusion 2.1's mirror.

The tests write them at narrow widths, `benchmarks/full_size.py` at full size.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from quantface_core.restorer import OSDFACE, OneStepRestorer, RestorerConfig

SD, OSDFACE_REPO = "Manojb/stable-diffusion-2-1-base", "alecccdd/OSDFace"
RANK = 16
# What OSDFace's LoRA adapts: attention, feed-forward, and convolutions of the UNet.
_ADAPTED = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "conv", "conv1", "conv2", "conv_in", "conv_out")

NARROW = replace(
    OSDFACE,
    image_size=64,
    unet={
        **OSDFACE.unet,
        "sample_size": 8,
        "block_out_channels": (32, 32, 64, 64),
        "attention_head_dim": (1, 1, 2, 2),
        "cross_attention_dim": 64,
    },
    vae={**OSDFACE.vae, "sample_size": 64, "block_out_channels": (32, 32, 32, 32)},
    embedder=replace(
        OSDFACE.embedder,
        image_size=64,
        base_channels=32,
        channel_multipliers=(1, 2, 2, 2, 3, 4),
        attention_resolution=2,
        latent_channels=32,
        codes=64,
        code_channels=32,
        prompt_channels=64,
    ),
)
"""OSDFace's architecture, level for level, at the narrowest widths its group norms allow."""


def random_restorer(config: RestorerConfig, seed: int = 0) -> OneStepRestorer:
    torch.manual_seed(seed)
    return OneStepRestorer(config).eval().requires_grad_(False)


def random_lora(restorer: OneStepRestorer, seed: int = 1) -> dict[str, Tensor]:
    """LoRA pairs in PEFT's naming, rank 16: 2-D for linears, 4-D for convolutions."""
    generator = torch.Generator().manual_seed(seed)
    pairs = {}
    for name, module in restorer.unet.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) and name.endswith(_ADAPTED):
            shape = module.weight.shape
            up = (shape[0], RANK) + (1, 1) * (len(shape) == 4)
            pairs[f"unet.{name}.lora_A.weight"] = 0.02 * torch.randn(RANK, *shape[1:], generator=generator)
            pairs[f"unet.{name}.lora_B.weight"] = 0.02 * torch.randn(up, generator=generator)
    return pairs


def embedder_state(restorer: OneStepRestorer) -> dict[str, Tensor]:
    """The embedder's state as in `associate_2.ckpt`, including tensors that its code never reads."""
    state = {}
    for name, tensor in restorer.embedder.state_dict().items():
        if not name.startswith("projection."):
            own = "quantize.embedding.weight" if name == "codebook.weight" else name
            state[f"vqvae_LQ.{own}"] = tensor
        if ".norm1." in name and (".attn." in name or ".attn_1." in name):
            state[f"vqvae_LQ.{name.replace('.norm1.', '.norm2.')}"] = torch.ones_like(tensor)
    state["vqvae_LQ.decoder.conv_in.weight"] = torch.zeros(4)
    state["vqvae_LQ.post_quant_conv.weight"] = torch.zeros(4)
    state["vqvae.encoder.conv_in.weight"] = torch.zeros(4)
    return state


def write_originals(restorer: OneStepRestorer, lora: dict[str, Tensor], folder: Path) -> dict[str, Path]:
    """Write the five files as in the two Hub repositories, under `folder`; returns their paths by part."""
    files = {
        "unet": folder / SD / "unet" / "diffusion_pytorch_model.safetensors",
        "vae": folder / SD / "vae" / "diffusion_pytorch_model.safetensors",
        "embedder": folder / OSDFACE_REPO / "associate_2.ckpt",
        "projection": folder / OSDFACE_REPO / "embedding_change_weights.pth",
        "lora": folder / OSDFACE_REPO / "pytorch_lora_weights.safetensors",
    }
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    save_file(restorer.unet.state_dict(), files["unet"], {"format": "pt"})
    save_file(restorer.vae.state_dict(), files["vae"], {"format": "pt"})
    torch.save({"state_dict": embedder_state(restorer), "epoch": 3}, files["embedder"])
    torch.save(dict(restorer.embedder.projection.state_dict()), files["projection"])
    save_file(lora, files["lora"])
    return files
