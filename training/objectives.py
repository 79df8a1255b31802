"""The objective of one training step: the terms of a stage's loss, each a scalar."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from losses import color_loss, frequency_loss, gradient_loss, opponent_colors
from torch import Tensor

from quantface_core.metrics.builtin import ssim
from quantface_core.restorer import OneStepRestorer
from quantface_core.restorer.one_step import Latent

LOG_VARIANCE = -6.0  # of the latent's posterior: a standard deviation of 0.05, for a latent of about unit scale
_FLOOR = 1e-4  # squared error (46 dB) below which no difference is visible
_RAMP = 2.0  # dB over which the weight of texture rises from 0 to 1
CHROMA_CHANNELS = (0, 7)  # of the latent, to which the "anchor" term ties red-green and yellow-blue

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Stage:
    """One stage of the recipe; see mini.toml."""

    name: str
    task: str  # "autoencode" or "restore"
    train: list[str]  # parts that learn: vae, decoder, unet, embedder, projection, paths
    steps: int
    batch: int
    crop: int  # pixels, side; the face's full size = no cropping
    learning_rate: float  # peak, after warm-up; cosine to a twentieth
    loss: dict[str, float] = field(default_factory=dict)  # weight of each term; absent = 0
    mild: float = 0.2  # share of nearly clean inputs
    severity: float | None = None  # severities are uniform draws to this power, with varied light; None = `mild`
    cleaned: bool = False  # with `severity`: faces of any size and condition, cleaned as a photo's are before restoring
    texture_below: float | None = None  # dB of an input below which texture is trained; better ones hold the truth
    seed_codebook: bool = False  # start by sampling the embedder's codes from its features
    reset_output: bool = False  # start with a UNet that predicts zero: the latent passes through unchanged


@dataclass(frozen=True)
class Outcome:
    """The terms of one step, and the images that a discriminator would judge (None where none were made)."""

    terms: Terms
    restored: Tensor | None = None
    clean: Tensor | None = None
    texture: Tensor | None = None  # [B] in 0 to 1: the weight of a face's texture terms; None = 1


def compute(model: OneStepRestorer, stage: Stage, clean: Tensor, degraded: Tensor, rng: np.random.Generator) -> Outcome:
    """Run the stage's task on a batch of pairs [B, 3, H, W] in [-1, 1]."""
    task = {"autoencode": _autoencode, "restore": _restore}[stage.task]
    return task(model, stage, clean, degraded, rng)


def _random_crop(images: list[Tensor], size: int, rng: np.random.Generator) -> list[Tensor]:
    """The same window of every tensor, on multiples of 4 pixels so that latents align."""
    top, left = (4 * rng.integers((side - size) // 4 + 1) for side in images[0].shape[-2:])
    return [x[..., top : top + size, left : left + size] for x in images]


def _autoencode(
    model: OneStepRestorer, stage: Stage, clean: Tensor, degraded: Tensor, rng: np.random.Generator
) -> Outcome:
    # One sample in five is a degraded face, because the encoder will see those.
    mixed = torch.cat([degraded[: len(clean) // 5], clean[len(clean) // 5 :]])
    (image,) = _random_crop([mixed], stage.crop, rng)
    posterior, maps = model.posterior(image)
    # With the KL term the latent is sampled, as published; without it, its spread is set directly.
    latent = posterior.sample() if stage.loss.get("kl") else posterior.mode()
    restored = model.decode(Latent(latent * model.vae.config.scaling_factor, maps)).float()
    terms = _picture_terms(stage, restored, image)
    mean = posterior.mean.float()
    terms["kl"] = posterior.kl().float().sum() / len(clean)
    terms["spread"] = (posterior.logvar.float() - LOG_VARIANCE).square().mean() + mean.square().mean()
    if stage.loss.get("anchor"):
        chroma = F.avg_pool2d(opponent_colors(image), image.shape[-1] // mean.shape[-1])
        terms["anchor"] = F.l1_loss(mean[:, list(CHROMA_CHANNELS)], chroma)
    return Outcome(terms, restored, image)


def _restore(
    model: OneStepRestorer, stage: Stage, clean: Tensor, degraded: Tensor, rng: np.random.Generator
) -> Outcome:
    terms: Terms = {}
    # The embedder's encoder runs without gradients where only the projection learns.
    with torch.set_grad_enabled("embedder" in stage.train):
        positions = model.embedder.positions(degraded)
    if stage.loss.get("codes"):
        terms["codes"] = _code_loss(model, positions)
    prompt = model.embedder.prompt(positions)
    clean, degraded = _random_crop([clean, degraded], stage.crop, rng)
    latent = model.encode(degraded)
    predicted = model.predict(latent, prompt)
    if stage.loss.get("latent"):
        with torch.no_grad():
            target = model.encode(clean).code
        terms["latent"] = F.l1_loss(predicted.code, target.float())
    if set(stage.loss) <= {"latent", "codes"}:
        return Outcome(terms)
    # A quarter of the batch, rounded up, keeps the autoencoder good on clean faces.
    kept = -(-len(clean) // 4) if stage.loss.get("autoencode") else 0
    pictures = model.decode(_joined(predicted, model.encode(clean[:kept])) if kept else predicted).float()
    if kept:
        terms["autoencode"] = F.l1_loss(pictures[len(clean) :], clean[:kept])
    restored = pictures[: len(clean)]
    before, after = (squared_error(x, clean) for x in (degraded, restored))
    terms["relative"] = ((after + _FLOOR) / (before + _FLOOR)).log().mean()
    texture = None
    if stage.texture_below is not None:
        # Squared errors in [-1, 1] are four times those in [0, 1], to which decibels refer.
        texture = ((stage.texture_below + 10 * (before / 4 + 1e-9).log10()) / _RAMP).clamp(0, 1)
    return Outcome(terms | _picture_terms(stage, restored, clean, texture), restored, clean, texture)


def _joined(a: Latent, b: Latent) -> Latent:
    maps = tuple(torch.cat(pair) for pair in zip(a.maps, b.maps, strict=True))
    return Latent(torch.cat([a.code, b.code.to(a.code.dtype)]), maps)


def _code_loss(model: OneStepRestorer, positions: Tensor) -> Tensor:
    """VQ-VAE's: codes move to the positions that chose them, positions commit to their codes."""
    code, _ = model.embedder.nearest(positions)
    vectors = model.embedder.codebook(code)
    moved, commit = F.mse_loss(vectors, positions.detach().float()), F.mse_loss(positions.float(), vectors.detach())
    return moved + 0.25 * commit


@torch.no_grad()
def seed_codebook(model: OneStepRestorer, degraded: Tensor, seed: int) -> None:
    """Standardise the embedder's features over some faces, and sample its codes from them.

    A codebook left at its tiny initial spread collapses: every face gets the same prompt.
    """
    embedder = model.embedder
    positions = torch.cat([embedder.positions(x) for x in degraded.split(8)]).flatten(0, 1)
    mean, deviation = positions.mean(0), positions.std(0).clamp_min(1e-6)
    embedder.quant_conv.weight.div_(deviation[:, None, None, None])
    assert embedder.quant_conv.bias is not None
    embedder.quant_conv.bias.sub_(mean).div_(deviation)
    standard = (positions - mean) / deviation
    chosen = torch.randperm(len(standard), generator=torch.Generator().manual_seed(seed))
    embedder.codebook.weight.copy_(standard[chosen[: embedder.config.codes].to(standard.device)])


def squared_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of each image, [B]."""
    return (a - b).square().mean((1, 2, 3))


def _picture_terms(stage: Stage, restored: Tensor, clean: Tensor, texture: Tensor | None = None) -> Terms:
    terms = {
        "l1": F.l1_loss(restored, clean),
        "mse": F.mse_loss(restored, clean),
        "gradient": gradient_loss(restored, clean),
        "color": color_loss(restored, clean),
    }
    if stage.loss.get("ssim"):
        terms["ssim"] = 1 - ssim(restored / 2 + 0.5, clean / 2 + 0.5).mean()
    if stage.loss.get("frequency"):
        terms["frequency"] = frequency_loss(restored, clean, texture)
    return terms
