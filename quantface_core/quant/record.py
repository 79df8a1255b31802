"""Batches from a model's own calls: what a pipeline passes to its model is what to quantize it on."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..errors import UsageError
from ..nn.swap import check_module
from ..runtime.compiled import original
from .batches import copied


@contextmanager
def record_calls(model: nn.Module) -> Iterator[list[Any]]:
    """Within the block, note the arguments of every call of `model`; yields them as batches, for `quantize` and others.

    Run what the model is part of, such as a pipeline, as it will be used. A call's arguments are copied to main memory:
    a tuple where all are positional, else a mapping by name. Raises UsageError for what is not a module, and at a call
    with arguments of both kinds where `forward` has no names for the former.
    """
    check_module(model)
    batches: list[Any] = []

    def note(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        with torch.inference_mode(False), torch.no_grad():  # tensors that any code may use later
            batches.append(copied(_as_batch(model, given, named), torch.device("cpu")))

    with model.register_forward_pre_hook(note, with_kwargs=True):
        yield batches


def _as_batch(model: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
    if not named:
        return given
    parameters = inspect.signature(original(model).forward).parameters.values()
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    if given and (len(given) > len(names) or any(p.kind is p.POSITIONAL_ONLY for p in parameters)):
        kind = type(model).__name__
        raise UsageError(f"{kind} is called with arguments by name beside others that have none: make batches yourself")
    return {**dict(zip(names, given, strict=False)), **named}
