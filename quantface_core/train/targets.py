"""What a model is trained towards: its teacher's outputs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..nn.modes import eval_mode

_HELD = 1 << 30  # bytes of targets kept, at most; the teacher runs again for the others


class Targets:
    """A teacher's output tensors for batches, float32 in main memory: each computed when it is first asked for.

    So a run starts at once, and the teacher runs on those batches alone that the run draws.
    """

    def __init__(self, teacher: nn.Module, outputs: Callable[[nn.Module, int], list[Tensor]], trained: int) -> None:
        """`outputs(teacher, index)` are those for a batch; the first `trained` batches are not for validation."""
        self._teacher, self._outputs, self._trained = teacher, outputs, trained
        self._made: dict[int, list[Tensor]] = {}
        self._room = _HELD

    def __call__(self, index: int) -> list[Tensor]:
        """The targets for a batch. Raises UsageError where nothing can be learned from them."""
        if index in self._made:
            return self._made[index]
        with eval_mode(self._teacher):
            made = [t.detach().float().cpu() for t in self._outputs(self._teacher, index)]
        self._check(made, index)
        size = sum(t.nbytes for t in made)
        if size <= self._room:
            self._room -= size
            self._made[index] = made
        return made

    def _check(self, made: list[Tensor], index: int) -> None:
        if not made:
            raise UsageError("the teacher's output holds no floating-point tensor: give a `forward` that returns one")
        if not all(torch.isfinite(t).all() for t in made):
            which = f"batch {index}" if index < self._trained else f"validation batch {index - self._trained}"
            raise UsageError(f"the teacher's output for {which} is not finite: nothing can be learned from it")
