"""Stable Diffusion's single-file layout, written out by hand: the opposite direction of the converter's."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from quantface_core.restorer import OneStepRestorer

_UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}


def _unet_name(name: str, layers: int = 2) -> str:
    module, _, leaf = name.rpartition(".")
    if module in _UNET_ENDS:
        return f"{_UNET_ENDS[module]}.{leaf}"
    per_level = layers + 1
    if match := re.match(r"down_blocks\.(\d)\.(resnets|attentions|downsamplers)\.(\d)\.(.+)", name):
        level, kind, index, rest = int(match[1]), match[2], int(match[3]), match[4]
        if kind == "downsamplers":
            return f"input_blocks.{(level + 1) * per_level}.0.{rest.replace('conv', 'op')}"
        place = f"input_blocks.{level * per_level + index + 1}.{0 if kind == 'resnets' else 1}"
    elif match := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        kind, index, rest = match[1], int(match[2]), match[3]
        place = f"middle_block.{2 * index if kind == 'resnets' else 1}"
    elif match := re.match(r"up_blocks\.(\d)\.(resnets|attentions|upsamplers)\.(\d)\.(.+)", name):
        level, kind, index, rest = int(match[1]), match[2], int(match[3]), match[4]
        if kind == "upsamplers":  # after the attention, where the level has one; SD's outermost-first level 0 has none
            return f"output_blocks.{level * per_level + per_level - 1}.{1 if level == 0 else 2}.{rest}"
        place = f"output_blocks.{level * per_level + index}.{0 if kind == 'resnets' else 1}"
    else:
        raise KeyError(name)
    if kind == "resnets":
        head, _, leaf = rest.rpartition(".")
        return f"{place}.{_RESNET[head]}.{leaf}"
    return f"{place}.{rest}"


def _vae_name(name: str, levels: int = 4) -> str:
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.", r"encoder.down.\1.block.", name)
    name = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0\.", r"encoder.down.\1.downsample.", name)
    up = re.match(r"decoder\.up_blocks\.(\d)\.(.+)", name)
    if up:
        rest = up[2].replace("resnets.", "block.").replace("upsamplers.0.", "upsample.")
        name = f"decoder.up.{levels - 1 - int(up[1])}.{rest}"
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    head, middle, rest = name.partition("mid_block.attentions.0.")
    if middle:
        part, _, leaf = rest.rpartition(".")
        name = f"{head}mid.attn_1.{attention[part]}.{leaf}"
    return name


def to_single_file(restorer: OneStepRestorer) -> dict[str, Tensor]:
    """`v2-1_512-ema-pruned` of a restorer's UNet and autoencoder, with a text encoder and a schedule beside them."""
    state = {"cond_stage_model.model.positional_embedding": torch.zeros(2), "betas": torch.zeros(2)}
    for name, tensor in restorer.unet.state_dict().items():
        state[f"model.diffusion_model.{_unet_name(name)}"] = tensor
    for name, tensor in restorer.vae.state_dict().items():
        own = _vae_name(name)
        convolution = ".attn_1." in own and tensor.ndim == 2
        state[f"first_stage_model.{own}"] = tensor[:, :, None, None].contiguous() if convolution else tensor
    return state
