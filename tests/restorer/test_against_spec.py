"""docs/method.md, section 1 said again, in float64, from its formulas: the embedder, the schedule and the one step.

UNet and autoencoder are diffusers' own classes, run in float64; everything that this project wrote is written
a second time here, plainly: one image, loops over positions, arithmetic spelled out.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantface_core.bundled import bundled_faces
from quantface_core.restorer import OneStepRestorer, RestorerConfig
from quantface_core.restorer.one_step import Latent
from tests.random_originals import NARROW

State = dict[str, Tensor]

# What a residual branch ends in, in diffusers' classes and in the embedder.
_BRANCHES = ("conv2", "proj_out", "to_out.0", "ff.net.2")

FEW = replace(NARROW, image_size=128)  # four positions, 77 tokens: most rows are zero
MANY = replace(  # 256 positions: 77 distinct codes to be found among repeated ones
    FEW,
    embedder=replace(
        NARROW.embedder,
        channel_multipliers=(1, 2),
        image_size=32,
        attention_resolution=16,
        latent_channels=32,
        codes=150,
    ),
)


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def convolved(state: State, name: str, x: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride, padding)


def pointwise(state: State, name: str, x: Tensor) -> Tensor:
    """A 1x1 convolution as the sum it is; [1, C, H, W]."""
    weight = state[f"{name}.weight"].flatten(1)
    return torch.einsum("oc,bchw->bohw", weight, x) + state[f"{name}.bias"][None, :, None, None]


def normalised(state: State, name: str, x: Tensor) -> Tensor:
    groups = x.reshape(1, 32, -1)
    mean = groups.mean(2, keepdim=True)
    variance = ((groups - mean) ** 2).mean(2, keepdim=True)
    flat = ((groups - mean) / torch.sqrt(variance + 1e-6)).reshape(x.shape)
    return flat * state[f"{name}.weight"][None, :, None, None] + state[f"{name}.bias"][None, :, None, None]


def residual(state: State, name: str, x: Tensor) -> Tensor:
    h = convolved(state, f"{name}.conv1", silu(normalised(state, f"{name}.norm1", x)))
    h = convolved(state, f"{name}.conv2", silu(normalised(state, f"{name}.norm2", h)))
    shortcut = f"{name}.nin_shortcut"
    return (pointwise(state, shortcut, x) if f"{shortcut}.weight" in state else x) + h


def attended(state: State, name: str, x: Tensor) -> Tensor:
    h = normalised(state, f"{name}.norm1", x)
    q, k, v = (pointwise(state, f"{name}.{part}", h).flatten(2)[0] for part in "qkv")  # [C, P]
    weights = torch.softmax(q.t() @ k / math.sqrt(len(q)), dim=1)
    return x + pointwise(state, f"{name}.proj_out", (v @ weights.t()).reshape(x.shape))


def encoded(state: State, levels: int, blocks: int, x: Tensor) -> Tensor:
    x = convolved(state, "encoder.conv_in", x)
    for level in range(levels):
        place = f"encoder.down.{level}"
        for block in range(blocks):
            x = residual(state, f"{place}.block.{block}", x)
            if f"{place}.attn.{block}.q.weight" in state:
                x = attended(state, f"{place}.attn.{block}", x)
        if level < levels - 1:
            x = convolved(state, f"{place}.downsample.conv", F.pad(x, (0, 1, 0, 1)), stride=2, padding=0)
    x = residual(state, "encoder.mid.block_1", x)
    x = attended(state, "encoder.mid.attn_1", x)
    x = residual(state, "encoder.mid.block_2", x)
    return convolved(state, "encoder.conv_out", silu(normalised(state, "encoder.norm_out", x)))


def prompted(state: State, restorer: OneStepRestorer, image: Tensor) -> Tensor:
    """[1, 3, H, W] in [-1, 1] -> [1, tokens, prompt_channels]."""
    config = restorer.config.embedder
    x = F.interpolate(image, size=(config.image_size,) * 2, mode="bilinear", align_corners=False)
    x = (x - 0.5) / 0.5  # once more, on top of [-1, 1]
    x = encoded(state, len(config.channel_multipliers), config.blocks_per_level, x)
    positions = pointwise(state, "quant_conv", x).flatten(2)[0].t()
    votes = []
    for place, vector in enumerate(positions):
        distances = ((state["codebook.weight"] - vector) ** 2).sum(1)
        votes.append((float(distances.min()), place, int(distances.argmin())))
    chosen: list[int] = []
    for _, _, code in sorted(votes):
        if code not in chosen and len(chosen) < config.tokens:
            chosen.append(code)
    rows = torch.zeros(config.tokens, config.code_channels, dtype=torch.float64)
    rows[: len(chosen)] = state["codebook.weight"][chosen]
    for conv in ("projection.conv1", "projection.conv2"):
        rows = silu(rows @ state[f"{conv}.weight"][:, :, 0].t() + state[f"{conv}.bias"])
    return rows[None]


def restored(restorer: OneStepRestorer, image: Tensor) -> Tensor:
    double, config = deepcopy(restorer).double(), restorer.config
    state, scale = dict(double.embedder.state_dict()), config.vae["scaling_factor"]
    image = F.interpolate(image.double(), size=(config.image_size,) * 2, mode="bilinear", align_corners=True)
    kept = 1.0
    for step in range(config.timestep + 1):
        root = math.sqrt(0.00085) + (math.sqrt(0.012) - math.sqrt(0.00085)) * step / 999
        kept *= 1 - root**2
    p = prompted(state, double, image)
    posterior, maps = double.posterior(image)  # with a feature path's maps where there are some
    z = posterior.mean * scale
    e = double.unet(z, config.timestep, encoder_hidden_states=p).sample
    x0 = (z - math.sqrt(1 - kept) * e) / math.sqrt(kept)
    return double.decode(Latent(x0, maps)).clamp(-1, 1)


def like_trained(config: RestorerConfig) -> OneStepRestorer:
    """Random weights that keep a signal's size, with residual branches that add a little to it.

    PyTorch's own are small beside their biases: what varies fades from layer to layer, and group norms blow up
    what is left of it together with its rounding, to 3e-4 in the picture, where the trained mini has 1e-5.
    """
    torch.manual_seed(3)
    restorer = OneStepRestorer(config).eval().requires_grad_(False)
    for name, module in restorer.named_modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            branch = name.endswith(_BRANCHES) and "projection" not in name
            module.weight.normal_(0, (0.25 if branch else 1) / math.sqrt(module.weight[0].numel()))
        elif isinstance(module, nn.GroupNorm | nn.LayerNorm):
            module.weight.normal_(1, 0.1)
        if getattr(module, "bias", None) is not None:
            module.bias.normal_(0, 0.1)
    return restorer


@pytest.mark.parametrize("config", [FEW, MANY], ids=["four positions", "256 positions"])
def test_the_pipeline_matches_the_specification(config: RestorerConfig) -> None:
    assert (config.timestep, config.vae["scaling_factor"]) == (399, 0.18215)
    restorer = like_trained(config)
    image = torch.rand(2, 3, 100, 100, generator=torch.Generator().manual_seed(4)) * 2 - 1
    spread_codes(restorer, image)
    expected = torch.cat([restored(restorer, one[None]) for one in image])
    assert expected.std() > 0.3
    double = deepcopy(restorer).double()
    assert (double(image.double()) - expected).abs().max() < 1e-6  # pictures are float32 whatever the parts are
    assert (restorer(image).double() - expected).abs().max() < 1e-4
    prompts = torch.cat([prompted(dict(double.embedder.state_dict()), double, one[None].double()) for one in image])
    assert (restorer.embedder(image).double() - prompts).abs().max() < 1e-5
    assert prompts.std() > 0.03


def test_the_trained_pipeline_matches_the_specification(mini: OneStepRestorer) -> None:
    (face,) = bundled_faces(1, mini.config.image_size)
    expected = restored(mini, face[None])
    assert expected.std() > 0.3
    assert (mini(face[None]).double() - expected).abs().max() < 5e-5


def spread_codes(restorer: OneStepRestorer, image: Tensor) -> None:
    """Codes among the positions, so that images vote for many, some of them often."""
    embedder, generator = restorer.embedder, torch.Generator().manual_seed(5)
    positions = embedder.positions(image).flatten(0, 1)
    picked = torch.randint(len(positions), (len(embedder.codebook.weight),), generator=generator)
    noise = torch.randn(embedder.codebook.weight.shape, generator=generator)
    embedder.codebook.weight.copy_(positions[picked] + 0.3 * positions.std() * noise)


def test_test_images_choose_many_distinct_codes() -> None:
    restorer = like_trained(MANY)
    image = torch.rand(2, 3, 100, 100, generator=torch.Generator().manual_seed(4)) * 2 - 1
    spread_codes(restorer, image)
    codes, _ = restorer.embedder.nearest(restorer.embedder.positions(image))
    for votes in codes:
        assert 20 < len(votes.unique()) < 256
