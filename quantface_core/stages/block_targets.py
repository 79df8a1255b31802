"""Inputs and outputs of single blocks of the full-precision restorer: the targets of block-by-block distillation."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from ..nn.swap import quant_layers
from ..restorer import OneStepRestorer
from ..restorer.by_stages import STAGES, stage_of
from ..restorer.one_step import Latent
from .per_image import PerImage

_BLOCK = re.compile(r".+\.(?:(down|up)(?:_blocks)?\.\d+|(mid)(?:_block)?)")
_LEVELS = ("down", "mid", "up")


def block_names(restorer: OneStepRestorer) -> list[str]:
    """Names of the blocks that contain low-bit layers, in execution order."""
    found = [match for name, _ in restorer.named_modules() if (match := _BLOCK.fullmatch(name))]
    found.sort(key=lambda match: (list(STAGES).index(stage_of(match[0])), _LEVELS.index(match[1] or match[2])))
    low = list(quant_layers(restorer))
    return [block[0] for block in found if any(layer.startswith(f"{block[0]}.") for layer in low)]


class _StopError(Exception):
    """Ends the teacher's forward pass at the end of the block."""


class TeacherActivations:
    """Records the inputs and outputs of a teacher's blocks over images [N, 3, S, S] in [-1, 1] at its native size.

    Only the stage that contains a block runs, up to the block's end. The outputs of earlier stages are computed once
    per image and kept, 0.5 MB per face at 512 pixels.
    """

    def __init__(self, teacher: OneStepRestorer, images: Tensor) -> None:
        self.teacher, self.images = teacher, images
        self._encoded, self._predicted = PerImage(self._encode), PerImage(self._predict)

    @torch.no_grad()
    def __call__(self, name: str, indices: Tensor) -> tuple[tuple, dict[str, Any], Any]:
        """(positional arguments, keyword arguments, output) of block `name` as the teacher restores `indices` [B]."""
        block, seen = self.teacher.get_submodule(name), list[Any]()

        def entered(_: nn.Module, given: tuple, keywords: dict[str, Any]) -> None:
            seen.extend((given, keywords))

        def left(_: nn.Module, __: tuple, output: Any) -> None:
            seen.append(output)
            raise _StopError

        before, after = block.register_forward_pre_hook(entered, with_kwargs=True), block.register_forward_hook(left)
        with before, after, suppress(_StopError):
            self._run(stage_of(name), indices)
        return seen[0], seen[1], seen[2]

    def _run(self, stage: str, indices: Tensor) -> None:
        teacher = self.teacher
        if stage == "unet":
            prompt, *latent = self._read(self._encoded, indices)
            teacher.predict(_latent(latent), prompt)
        elif stage == "decoder":
            teacher.decode(_latent(self._read(self._predicted, indices)))
        else:
            image = self.images[indices].to(teacher.device, teacher.dtype)
            teacher.encode(image) if stage == "encoder" else teacher.embedder(image)

    def _read(self, outputs: PerImage, indices: Tensor) -> list[Tensor]:
        return [part.to(self.teacher.device) for part in outputs(indices)]

    def _encode(self, index: int) -> tuple[Tensor, ...]:
        image = self.images[index : index + 1].to(self.teacher.device, self.teacher.dtype)
        code, maps = self.teacher.encode(image)
        return self.teacher.embedder(image), code, *maps

    def _predict(self, index: int) -> tuple[Tensor, ...]:
        prompt, *latent = self._read(self._encoded, torch.tensor([index]))
        code, maps = self.teacher.predict(_latent(latent), prompt)
        return code, *maps


def _latent(tensors: list[Tensor]) -> Latent:
    return Latent(tensors[0], tuple(tensors[1:]))
