"""The one-step diffusion restorer: maps degraded faces to restored faces (docs/method.md, section 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn

from ..nn.channels_last_norm import replace_norms
from ..nn.constant_cache import constant_caches
from ..nn.graphs import Graphs
from .attention import AttentionProcessor
from .configs import RestorerConfig
from .embedder import Embedder
from .feature_paths import FeaturePaths, Maps, decode_with_maps, encode_with_maps, expose_maps
from .fold_rules import RULES
from .images import postprocess, preprocess
from .interface import RestorerModel
from .residual import replace_residuals
from .seeded_noise import seeded_noise
from .time_embedding import cache_time_embedding
from .transformer import replace_transformers
from .upsample import replace_upsamplers


def alpha_bar(timestep: int) -> float:
    """The cumulative product of alphas at a timestep of SD 2.1's scaled-linear schedule, computed in float64."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64, device="cpu").square()
    return float((1 - betas).cumprod(0)[timestep])


class Latent(NamedTuple):
    """An encoded image, as passed from encoder to UNet to decoder."""

    code: Tensor  # [B, C, h, w], scaled
    maps: Maps = ()  # the encoder's, for feature paths, preceded by the image itself for a residual decoder


class OneStepRestorer(RestorerModel):
    """Embedder, autoencoder and UNet of one configuration, and the single diffusion step that connects them.

    Weights are random until loaded. The step itself is computed in float32 or better, whatever the parts' dtype.
    """

    family = "one-step"
    edge_layers = ("conv_in", "conv_out", "time_emb", "quant_conv", "time_embedding")
    fold_rules = RULES
    config: RestorerConfig

    def __init__(self, config: RestorerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedder = Embedder(config.embedder)
        self.unet = UNet2DConditionModel(**config.unet)
        self.vae = AutoencoderKL(**config.vae)
        self.paths = FeaturePaths(config.vae, config.feature_paths)
        if config.feature_paths:
            expose_maps(self.vae.encoder)
        _act_in_place(self)
        replace_residuals(self)
        replace_transformers(self)
        replace_upsamplers(self)
        replace_norms(self)
        cache_time_embedding(self.unet)
        self.unet.set_attn_processor(AttentionProcessor())
        self.vae.set_attn_processor(AttentionProcessor())
        self._steps: dict[torch.device, Tensor] = {}
        self.graphs: Graphs = Graphs()
        kept = alpha_bar(config.timestep)
        self.signal, self.noise = kept**0.5, (1 - kept) ** 0.5

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    @property
    def device(self) -> torch.device:
        return self.unet.device

    def posterior(self, image: Tensor) -> tuple[DiagonalGaussianDistribution, Maps]:
        """Image [B, 3, H, W] in [-1, 1] -> (distribution of its latent before scaling, the encoder's maps)."""
        picture = (image,) if self.config.residual else ()
        image = image.to(self.dtype)
        if not self.config.feature_paths:
            return self.vae.encode(image).latent_dist, picture
        hidden, maps = encode_with_maps(self.vae.encoder, image)
        return DiagonalGaussianDistribution(self.vae.quant_conv(hidden)), (*picture, *maps)

    def encode(self, image: Tensor, seeds: Sequence[int] | None = None) -> Latent:
        """Image [B, 3, H, W] in [-1, 1] -> scaled latent [B, C, H/f, W/f]: the mode, or a seeded sample."""
        return self._sampled(*self._moments(image), seeds)

    def _moments(self, image: Tensor) -> tuple[Tensor, Tensor, Maps]:
        """Image -> (mean, standard deviation of its latent before scaling, the encoder's maps)."""
        posterior, maps = self.posterior(image)
        return posterior.mode(), posterior.std, maps

    def _sampled(self, mean: Tensor, std: Tensor, maps: Maps, seeds: Sequence[int] | None) -> Latent:
        code = mean if seeds is None else mean + std * seeded_noise(seeds, [mean.shape[1:]])[0].to(mean)
        return Latent(code * self.vae.config.scaling_factor, maps)

    def predict(self, latent: Latent, prompt: Tensor) -> Latent:
        """The one step: latent and prompt [B, T, C_prompt] -> restored latent, float32 or better."""
        code = latent.code
        epsilon = self.unet(code, self._step(code.device), encoder_hidden_states=prompt).sample
        wide = torch.promote_types(code.dtype, torch.float32)
        return Latent((code.to(wide) - self.noise * epsilon.to(wide)) / self.signal, latent.maps)

    def _step(self, device: torch.device) -> Tensor:
        """The timestep as a tensor on the device: a Python number would be copied, synchronously, at every call."""
        if device not in self._steps:
            self._steps[device] = torch.tensor(self.config.timestep, device=device)
        return self._steps[device]

    def decode(self, latent: Latent) -> Tensor:
        """Scaled latent -> image [B, 3, H, W], nominally in [-1, 1] but not clamped."""
        code = (latent.code / self.vae.config.scaling_factor).to(self.dtype)
        if not self.config.residual:
            return self._decoded(code, latent.maps)
        picture, *maps = latent.maps
        return self._decoded(code, tuple(maps)) + picture

    def _decoded(self, code: Tensor, maps: Maps) -> Tensor:
        if self.config.feature_paths:
            return decode_with_maps(self.vae.decoder, self.paths, self.vae.post_quant_conv(code), maps)
        decoded: Tensor = self.vae.decode(code).sample
        return decoded

    def forward(self, image: Tensor, seeds: Sequence[int] | None = None) -> Tensor:
        """Restore faces: [B, 3, H, W] in [-1, 1] -> [B, 3, S, S] float32 in [-1, 1], S the native size.

        Without seeds the result depends on the input alone; with one seed per image, latents are sampled. Raises
        ImageError when the input has another shape or input or output is not finite, UsageError for a wrong number of
        seeds.
        """
        image = preprocess(image, seeds, self.config.image_size)
        # CUDA graphs are kept for one face at a time only; larger batches keep the device busy without them.
        with self.graphs.running(self, image.device, wanted=len(image) == 1) as run:
            prompt = run("embedder", self.embedder, image.to(self.dtype))
            mean, std, maps = run("encoder", self._moments, image)
            latent = self._sampled(mean, std, maps, seeds)
            code = run("unet", lambda code, prompt: self.predict(Latent(code), prompt).code, latent.code, prompt)
            return postprocess(run("decoder", self.decode, Latent(code, latent.maps)))

    def _apply(self, fn: Any, recurse: bool = True) -> OneStepRestorer:
        """As `nn.Module`, but first drop captured graphs and caches, which hold tensors on the old device."""
        self.graphs.drop()
        for cache in constant_caches(self):
            cache.cached = None
        moved: OneStepRestorer = super()._apply(fn, recurse)
        return moved


class _MapSiLU(nn.SiLU):
    """SiLU of a norm's output: in place on maps, because nothing else uses them, unless gradients need them.

    At image resolution, allocating a new map costs several times the arithmetic.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x, inplace=x.ndim == 4 and not torch.is_grad_enabled())


def _act_in_place(model: nn.Module) -> None:
    """Replace SiLU by `_MapSiLU` in diffusers' blocks, only where it follows a norm."""
    for module in model.modules():
        for name in ("nonlinearity", "conv_act"):
            if type(getattr(module, name, None)) is nn.SiLU:
                setattr(module, name, _MapSiLU())
