"""Unwrap models returned by `torch.compile`, for code that relies on hooks and on the original layer names."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import nn

_Work = TypeVar("_Work", bound=Callable[..., Any])


def original(model: nn.Module) -> nn.Module:
    """The module that a compiled model wraps, whose layer names lack the `_orig_mod` prefix; any other model itself."""
    return getattr(model, "_orig_mod", model)


def uncompiled(work: _Work) -> _Work:
    """Decorator: pass a function, as its first argument, the original of a compiled model, and run it uncompiled."""

    @wraps(work)
    def with_original(model: nn.Module, *given: Any, **named: Any) -> Any:
        with _eager():
            return work(original(model), *given, **named)

    return cast(_Work, with_original)


@contextmanager
def _eager() -> Iterator[None]:
    """Context manager: within it, everything runs eagerly, compiled submodules too: compiled code calls no hooks."""
    stance = getattr(torch.compiler, "set_stance", None)  # from torch 2.6 on
    with nullcontext() if stance is None or "torch._dynamo" not in sys.modules else stance("force_eager"):
        yield
