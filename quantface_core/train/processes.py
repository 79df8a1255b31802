"""The processes of one training run: their indices, their devices, and the mean of their gradients.

Under `accelerate launch` or torchrun there are several; otherwise one, and accelerate is not imported.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from accelerate import PartialState


def rank_and_world_size() -> tuple[int, int]:
    """(this process's index, number of processes)."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 0, 1
    state = _launched()
    return state.process_index, state.num_processes


def _launched() -> PartialState:
    """The launcher's state of this process."""
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    # Without this flag, processes on CPUs would not form a group, and each would train its own model.
    first = not PartialState._shared_state
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available())
    if first:
        atexit.register(state.destroy_process_group)  # a process that exits without it may abort the others
    return state


def average_gradients(loss: Tensor, parameters: Iterable[nn.Parameter]) -> None:
    """Replace the loss and the parameters' gradients by their means over all processes, in place.

    A gradient that only some processes lack, as of a layer that their images do not reach, counts as zeros; one that
    all lack stays None.
    """
    if rank_and_world_size()[1] == 1:
        return
    from accelerate.utils import reduce

    parameters = list(parameters)
    reached = torch.tensor([p.grad is not None for p in parameters], dtype=torch.float32)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    tensors = [loss, reached, *gradients]  # with the same sizes in every process
    # All at once, because an exchange between processes costs more than its payload; on the launcher's device,
    # because processes on GPUs cannot exchange tensors in CPU memory.
    flat = reduce(torch.cat([t.detach().flatten().float().to(_launched().device) for t in tensors]), "mean")
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))
    for parameter, gradient, share in zip(parameters, gradients, reached, strict=True):
        parameter.grad = gradient if share else None


def is_main_process() -> bool:
    """Whether this process writes files and shows progress."""
    return rank_and_world_size()[0] == 0


def launched_device() -> torch.device | None:
    """The device that a launcher gave this process; None for a single process."""
    return None if rank_and_world_size()[1] == 1 else _launched().device
