"""Training inside torch's inference mode, in which hosts run nodes: tensors created there cannot carry gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

P = ParamSpec("P")
R = TypeVar("R")


def without_inference_mode(train: Callable[P, R]) -> Callable[P, R]:
    """Decorator: let a function train even under inference mode. Tensors and models in its arguments leave it first."""

    @wraps(train)
    def run(*arguments: P.args, **named: P.kwargs) -> R:
        with torch.inference_mode(False):
            made: dict[Tensor, Tensor] = {}
            given: list[Any] = [_trainable(a, made) for a in arguments]
            return train(*given, **{name: _trainable(a, made) for name, a in named.items()})

    return run


def _trainable(value: Any, made: dict[Tensor, Tensor]) -> Any:
    """Replace inference tensors by normal copies: a tensor itself, a model's tensors in place, and either of them in
    lists, tuples and dictionaries. `made` maps each tensor to its one copy, so that shared tensors stay shared.
    """
    if type(value) in (list, tuple):
        return type(value)(_trainable(part, made) for part in value)
    if type(value) is dict:
        return {key: _trainable(part, made) for key, part in value.items()}
    if isinstance(value, Tensor):
        return _copied(value, made)
    if isinstance(value, nn.Module):
        for module in value.modules():
            for tensors in (module._parameters, module._buffers):
                tensors.update({name: _copied(t, made) for name, t in tensors.items() if t is not None})
    return value


def _copied(tensor: Tensor, made: dict[Tensor, Tensor]) -> Any:
    if not tensor.is_inference():
        return tensor
    if tensor not in made:
        copy = tensor.clone()
        made[tensor] = nn.Parameter(copy, requires_grad=False) if isinstance(tensor, nn.Parameter) else copy
    return made[tensor]
