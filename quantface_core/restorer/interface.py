"""The interface of restorers that the rest of the library relies on, whatever their architecture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..nn.graphs import Graphs
from ..nn.marks import Recomputable
from ..nn.modes import device_of
from ..quant.fold_rules import DIFFUSERS, FoldRule


class Restorer(Protocol):
    """What restoring a photo requires.

    Where its attribute `batches_itself` is true, it gets all faces in one call, and `batch_size`. Where its attribute
    `keeps_contrast` is, it gets faces in their own contrast, not stretched to an ordinary one, and returns them in
    that.
    """

    @property
    def image_size(self) -> int:
        """Side of its native square crop, in pixels."""

    @property
    def device(self) -> torch.device:
        """The device of its weights, on which inputs must be."""

    def __call__(self, image: Tensor, seeds: Sequence[int] | None = None) -> Tensor:
        """Faces [B, 3, H, W] in [-1, 1] -> restored [B, 3, S, S] float32 in [-1, 1]; one seed per image, or None.

        Raises ImageError, UsageError.
        """


def check_restorer(restorer: object) -> None:
    """Raise UsageError for what is no `Restorer`, such as the name or the file of one."""
    if isinstance(restorer, str | Path):
        raise UsageError(f"a restorer is a loaded one: load_restorer(restorer_path({str(restorer)!r}))")
    if isinstance(restorer, type) or not (callable(restorer) and hasattr(restorer, "image_size")):
        raise UsageError(f"a restorer is what load_restorer returns, got {restorer!r:.60}")


class Config(Protocol):
    """The description of a restorer's architecture."""

    @property
    def name(self) -> str: ...
    @property
    def image_size(self) -> int: ...
    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary, as stored in a file's header."""


class RestorerModel(nn.Module):
    """A restorer that is a module, which can be saved, loaded and quantized; `forward` is `Restorer.__call__`."""

    family: ClassVar[str]  # name in `families.py` and in files
    edge_layers: tuple[str, ...] = ()  # substrings of the names of layers that keep more bits than the others
    fold_rules: ClassVar[Sequence[FoldRule]] = DIFFUSERS  # where a layer's balance can be folded into its producer
    graphs: Graphs | None = None  # its CUDA graphs; None = it never captures any
    fidelity: float | None = None  # `forward`'s default `fidelity`, 0 to 1; None = no such argument
    licence: str = ""  # of the weights; empty = unknown
    file_dtype: torch.dtype = torch.float16  # dtype of float weights in a file
    config: Any  # a `Config`; attributes are invariant, so a subclass could not narrow it to its own

    @property
    def image_size(self) -> int:
        """Side of its native square crop, in pixels."""
        return self.config.image_size

    @property
    def working_memory(self) -> int:
        """Bytes that restoring one face takes besides the weights: 2800 a pixel, 0.7 GB at 512x512 on an H100."""
        return 2800 * self.image_size**2

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the submodules that can be quantized separately."""
        return tuple(name for name, _ in self.named_children())

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the float weights; float32 if there are none."""
        return next((p.dtype for p in self.parameters() if p.numel()), torch.float32)

    @property
    def device(self) -> torch.device:
        return device_of(self)

    @contextmanager
    def gradient_checkpointing(self, residual_blocks: bool = False) -> Iterator[None]:
        """Context manager: within it, parts that support it recompute activations in the backward pass.

        residual_blocks: checkpoint each residual block too, nested in the above: slower, but with the least memory.
        """
        blocks = [module for module in self.modules() if isinstance(module, Recomputable) and residual_blocks]
        able = [part for part in self.children() if hasattr(part, "enable_gradient_checkpointing")]
        for part in able:
            part.enable_gradient_checkpointing()  # type: ignore[operator]
        for block in blocks:
            block.recomputed = True
        try:
            yield
        finally:
            for part in able:
                part.disable_gradient_checkpointing()  # type: ignore[operator]
            for block in blocks:
                block.recomputed = False

    def outputs(self, image: Tensor) -> tuple[Tensor, ...]:
        """Everything that distillation compares with the teacher's, the restored image first."""
        return (self(image),)
