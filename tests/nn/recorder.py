"""A recorder of graphs that needs no GPU: it computes again what it captured, in the same tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_flatten

from quantface_core.nn.graphs import Graphs
from tests.nn.layers import CPU


class Again:
    """The stand-in; counts what is captured and replayed."""

    def __init__(self) -> None:
        self.captured = self.replayed = self.followed = 0

    def follow(self) -> None:
        self.followed += 1

    def capture(self, work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        self.captured += 1
        made = work()

        def replay() -> None:
            self.replayed += 1
            for held, new in zip(tree_flatten(made)[0], tree_flatten(work())[0], strict=True):
                held.copy_(new)

        return made, replay


@torch.inference_mode()
def run(graphs: Graphs, model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with graphs.running(model, CPU) as part:
        return part("whole", model, x).clone()
