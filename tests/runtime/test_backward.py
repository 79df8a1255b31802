from __future__ import annotations

import gc
import traceback
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from quantface_core.runtime.backward import graph_freed_on_error


class _Kept(torch.autograd.Function):
    """An identity whose context is known to be alive."""

    alive: list[weakref.ref[Any]] = []  # noqa: RUF012

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.kept = set[int]()
        _Kept.alive.append(weakref.ref(ctx.kept))
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def test_a_pass_that_is_cut_short_keeps_no_graph() -> None:
    def stop(_: Tensor) -> None:
        raise KeyboardInterrupt

    def train() -> None:
        weight = torch.ones(3, requires_grad=True)
        one, other = _Kept.apply(weight * 2), _Kept.apply(weight * 3)
        other.register_hook(stop)  # made last, it is gone back through first: the other waits
        with graph_freed_on_error():
            (one * other).sum().backward()

    with pytest.raises(KeyboardInterrupt) as stopped:
        train()
    traceback.clear_frames(stopped.tb)
    gc.collect()
    assert len(_Kept.alive) == 2
    assert all(kept() is None for kept in _Kept.alive)
