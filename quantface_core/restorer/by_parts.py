"""A restorer of which one part at a time is in memory: for small machines, many faces and few gigabytes.

The parts run one after the other anyway. Each is loaded, does all the faces, a few at once, and goes; what
lies between them is small: a latent is a 48th of its picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .configs import RestorerConfig
from .one_step import OneStepRestorer, postprocess, preprocess

EMBEDDER = ("embedder.",)
ENCODER = ("vae.encoder.", "vae.quant_conv.")
UNET = ("unet.",)
DECODER = ("vae.post_quant_conv.", "vae.decoder.", "paths.")
PARTS = {"embedder": EMBEDDER, "encoder": ENCODER, "unet": UNET, "decoder": DECODER}
"""The parts of the pipeline, in its order, by the beginnings of their tensors' names."""


def part_of(name: str) -> str:
    """The part of the pipeline that a layer or block belongs to, by its name."""
    return next(part for part, prefixes in PARTS.items() if f"{name}.".startswith(prefixes))


class RestorerByParts:
    """Does what `OneStepRestorer` does, to the same numbers.

    `load` is given the prefixes of the tensors that are needed and returns a restorer that has those; the
    rest of it stays empty.
    """

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
        """Faces [B, 3, H, W] in [-1, 1] -> [B, 3, S, S] float32; `batch_size` of them at once."""
        image = preprocess(image, seeds, self.config.image_size)
        parts = [slice(start, start + batch_size) for start in range(0, len(image), batch_size)]
        restorer = self._load(EMBEDDER)
        prompts = [restorer.embedder(image[part].to(restorer.dtype)) for part in parts]
        del restorer  # before the next: two at once are what this class avoids
        restorer = self._load(ENCODER)
        latents = [restorer.encode(image[part], seeds[part] if seeds is not None else None) for part in parts]
        del restorer
        restorer = self._load(UNET)
        latents = [restorer.predict(latent, prompt) for latent, prompt in zip(latents, prompts, strict=True)]
        del restorer
        restorer = self._load(DECODER)
        return torch.cat([postprocess(restorer.decode(latent)) for latent in latents])
