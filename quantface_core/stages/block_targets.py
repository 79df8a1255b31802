"""What one block of the full-precision restorer reads and writes: what block-by-block distillation learns from."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..nn.swap import quant_layers
from ..restorer import OneStepRestorer
from ..restorer.by_parts import PARTS, part_of
from ..restorer.one_step import Latent

_BLOCK = re.compile(r".+\.(?:(down|up)(?:_blocks)?\.\d+|(mid)(?:_block)?)")
_LEVELS = ("down", "mid", "up")


def block_names(restorer: OneStepRestorer) -> list[str]:
    """The blocks that have low-bit layers, in the order the data passes."""
    found = [match for name, _ in restorer.named_modules() if (match := _BLOCK.fullmatch(name))]
    found.sort(key=lambda match: (list(PARTS).index(part_of(match[0])), _LEVELS.index(match[1] or match[2])))
    low = list(quant_layers(restorer))
    return [block[0] for block in found if any(layer.startswith(f"{block[0]}.") for layer in low)]


class _StopError(Exception):
    """Ends the teacher's run where its block ends."""


class TeacherActivations:
    """Runs a teacher through its blocks over images [N, 3, S, S] in [-1, 1] at its native size.

    Only the part that holds a block runs: what the parts before it hand over is made once an image and kept
    in main memory, 0.5 MB a face at 512 pixels. Each image goes alone, so that it is batch-invariant.
    """

    def __init__(self, teacher: OneStepRestorer, images: Tensor) -> None:
        self.teacher, self.images = teacher, images
        self._before: dict[tuple[str, int], tuple[Tensor, ...]] = {}

    @torch.no_grad()
    def __call__(self, name: str, indices: Tensor) -> tuple[tuple, dict[str, Any], Any]:
        """(arguments, keyword arguments, output) of one block while the teacher restores these images."""
        block, seen = self.teacher.get_submodule(name), list[Any]()

        def entered(_: nn.Module, given: tuple, keywords: dict[str, Any]) -> None:
            seen.extend((given, keywords))

        def left(_: nn.Module, __: tuple, output: Any) -> None:
            seen.append(output)
            raise _StopError

        hooks = [block.register_forward_pre_hook(entered, with_kwargs=True), block.register_forward_hook(left)]
        try:
            self._run(part_of(name), indices)
        except _StopError:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        return seen[0], seen[1], seen[2]

    def _run(self, part: str, indices: Tensor) -> None:
        teacher = self.teacher
        if part == "unet":
            prompt, *latent = self._made("encoded", self._encoded, indices)
            teacher.predict(_latent(latent), prompt)
        elif part == "decoder":
            teacher.decode(_latent(self._made("predicted", self._predicted, indices)))
        else:
            image = self.images[indices].to(teacher.device, teacher.dtype)
            teacher.encode(image) if part == "encoder" else teacher.embedder(image)

    def _made(self, what: str, make: Callable[[Tensor], tuple[Tensor, ...]], indices: Tensor) -> list[Tensor]:
        """What `make` gives for each image, stacked; made once."""
        for index in indices.tolist():
            if (what, index) not in self._before:
                self._before[what, index] = tuple(part.cpu() for part in make(torch.tensor([index])))
        kept = [self._before[what, index] for index in indices.tolist()]
        return [torch.cat(parts).to(self.teacher.device) for parts in zip(*kept, strict=True)]

    def _encoded(self, indices: Tensor) -> tuple[Tensor, ...]:
        image = self.images[indices].to(self.teacher.device, self.teacher.dtype)
        code, maps = self.teacher.encode(image)
        return self.teacher.embedder(image), code, *maps

    def _predicted(self, indices: Tensor) -> tuple[Tensor, ...]:
        prompt, *latent = self._made("encoded", self._encoded, indices)
        code, maps = self.teacher.predict(_latent(latent), prompt)
        return code, *maps


def _latent(tensors: list[Tensor]) -> Latent:
    return Latent(tensors[0], tuple(tensors[1:]))
