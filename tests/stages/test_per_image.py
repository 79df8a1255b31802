"""What is kept of images for a training's next steps, and where."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from quantface_core.stages.per_image import PerImage


def test_each_image_is_made_once_by_itself_when_first_drawn() -> None:
    made = []

    def make(index: int) -> list[Tensor]:
        made.append(index)
        return [torch.full((1, 2), float(index)), torch.zeros(1, 3)]

    tensors = PerImage(make)
    for indices in ([3, 1], [1, 4]):
        first, second = tensors(torch.tensor(indices))
        assert first[:, 0].tolist() == indices
        assert second.shape == (2, 3)
    assert made == [3, 1, 4]


def test_what_is_kept_lies_in_main_memory() -> None:
    """That of ten thousand faces would fill a GPU."""
    on_a_gpu: Any = SimpleNamespace(cpu=lambda: torch.ones(1))
    tensors = PerImage(lambda _: [on_a_gpu])
    (given,) = tensors(torch.tensor([0, 2]))
    assert given.shape == (2,)
    assert all(part.device.type == "cpu" for parts in tensors._made.values() for part in parts)
