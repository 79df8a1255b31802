"""Training under torch's inference mode, where a host runs its nodes: tensors made there carry no gradient."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

P = ParamSpec("P")
R = TypeVar("R")


def without_inference_mode(train: Callable[P, R]) -> Callable[P, R]:
    """Let a function train wherever it is called: its tensors and models leave inference mode first."""

    @wraps(train)
    def run(*arguments: P.args, **named: P.kwargs) -> R:
        with torch.inference_mode(False):
            given: list[Any] = [_trainable(a) for a in arguments]
            return train(*given, **{name: _trainable(a) for name, a in named.items()})

    return run


def _trainable(value: Any) -> Any:
    """A tensor, or a model whose tensors, made under inference mode are replaced by copies; a model in place.

    Those in lists, tuples and dictionaries too.
    """
    if type(value) in (list, tuple):
        return type(value)(_trainable(part) for part in value)
    if type(value) is dict:
        return {key: _trainable(part) for key, part in value.items()}
    if isinstance(value, Tensor):
        return value.clone() if value.is_inference() else value
    if isinstance(value, nn.Module):
        for module in value.modules():
            for name, p in module._parameters.items():
                if p is not None and p.is_inference():
                    module._parameters[name] = nn.Parameter(p.clone(), requires_grad=False)
            for name, b in module._buffers.items():
                if b is not None and b.is_inference():
                    module._buffers[name] = b.clone()
    return value
