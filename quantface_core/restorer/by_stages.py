"""A restorer that holds one stage in memory at a time, for machines with little memory.

The stages run one after the other anyway. Each is loaded, processes all faces in batches, and is freed; what is kept
between stages is small: a latent has a 48th of its image's elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .configs import RestorerConfig
from .images import postprocess, preprocess
from .one_step import OneStepRestorer

EMBEDDER = ("embedder.",)
ENCODER = ("vae.encoder.", "vae.quant_conv.")
UNET = ("unet.",)
DECODER = ("vae.post_quant_conv.", "vae.decoder.", "paths.")
STAGES = {"embedder": EMBEDDER, "encoder": ENCODER, "unet": UNET, "decoder": DECODER}
"""The stages of restoring a face, in order, with the name prefixes of their tensors."""


def stage_of(name: str) -> str:
    """The name in `STAGES` of the stage that a layer or block of this name belongs to."""
    return next(stage for stage, prefixes in STAGES.items() if f"{name}.".startswith(prefixes))


class RestorerByStages:
    """Computes exactly what `OneStepRestorer` computes, stage by stage.

    `load` takes the name prefixes of the tensors needed and returns a restorer with those tensors; its other tensors
    are left empty.
    """

    batches_itself = True  # each stage processes all faces before the next is loaded

    def __init__(
        self,
        config: RestorerConfig,
        device: torch.device,
        load: Callable[[tuple[str, ...]], OneStepRestorer],
    ) -> None:
        self.config, self.device, self._load = config, device, load

    @property
    def image_size(self) -> int:
        return self.config.image_size

    def __call__(self, image: Tensor, seeds: Sequence[int] | None = None, batch_size: int = 1) -> Tensor:
        """Faces [B, 3, H, W] in [-1, 1] -> [B, 3, S, S] float32 in [-1, 1], `batch_size` at a time.

        Raises ImageError, UsageError, as `OneStepRestorer.forward` does.
        """
        image = preprocess(image, seeds, self.config.image_size)
        batches = [slice(start, start + batch_size) for start in range(0, len(image), batch_size)]
        restorer = self._load(EMBEDDER)
        prompts = [restorer.embedder(image[batch].to(restorer.dtype)) for batch in batches]
        del restorer  # before the next is loaded: this class must never hold two
        restorer = self._load(ENCODER)
        latents = [restorer.encode(image[batch], seeds[batch] if seeds is not None else None) for batch in batches]
        del restorer
        restorer = self._load(UNET)
        latents = [restorer.predict(latent, prompt) for latent, prompt in zip(latents, prompts, strict=True)]
        del restorer
        restorer = self._load(DECODER)
        return torch.cat([postprocess(restorer.decode(latent)) for latent in latents])
