"""What the tests of the trainer train: a line, and layers that not every image reaches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from quantface_core.train.trainer import Trainer
from quantface_core.types import TrainerConfig

SETTINGS = TrainerConfig(steps=12, batch_size=3, learning_rate=0.05, warmup=2, ema=0.9, validate_every=4, save_every=5)
COUNT = 10
DATA = torch.randn(COUNT, 4, generator=torch.Generator().manual_seed(0))
TARGET = DATA @ torch.tensor([1.0, -2.0, 0.5, 3.0]) + 1


def line() -> tuple[dict[str, nn.Parameter], Callable[[Tensor], Tensor]]:
    parameters = {"weight": nn.Parameter(torch.zeros(4)), "bias": nn.Parameter(torch.zeros(()))}

    def loss(indices: Tensor) -> Tensor:
        made = DATA[indices] @ parameters["weight"] + parameters["bias"]
        return (made - TARGET[indices]).square().mean()

    return parameters, loss


def validate_of(parameters: dict[str, nn.Parameter]) -> Callable[[int], float]:
    def validate(_: int) -> float:
        made = DATA @ parameters["weight"] + parameters["bias"]
        return -float((made - TARGET).square().mean().detach())

    return validate


def fitted(settings: TrainerConfig) -> tuple[Trainer, dict[str, nn.Parameter]]:
    parameters, loss = line()
    trainer = Trainer(parameters, settings, COUNT)
    trainer.run(loss, validate_of(parameters))
    return trainer, parameters


def experts(batch_size: int) -> dict[str, list[float]]:
    """Parameters after training where each image reaches only one, and nothing reaches the third."""
    parameters = {name: nn.Parameter(torch.ones(size)) for name, size in (("first", 2), ("second", 3), ("third", 1))}
    paths = [parameters["first"].sum, (-parameters["second"]).sum]
    settings = replace(SETTINGS, steps=3, batch_size=batch_size, weight_decay=0.1)
    Trainer(parameters, settings, 2).run(lambda indices: torch.stack([paths[i]() for i in indices.tolist()]).mean())
    return {name: parameter.tolist() for name, parameter in parameters.items()}
