"""Models that `torch.compile` gave, where hooks have to be called and layers go by their own names."""

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
    """The model that `torch.compile` was given, in which no layer's name begins with `_orig_mod`; any other itself."""
    return getattr(model, "_orig_mod", model)


def uncompiled() -> Callable[[_Work], _Work]:
    """Gives a function of a model what `torch.compile` was given, and runs that as it is written meanwhile."""

    def decorate(work: _Work) -> _Work:
        @wraps(work)
        def with_original(model: nn.Module, *given: Any, **named: Any) -> Any:
            with _eager():
                return work(original(model), *given, **named)

        return cast(_Work, with_original)

    return decorate


@contextmanager
def _eager() -> Iterator[None]:
    """While it lasts no compiled code runs, of a part of a model either: it calls no hooks."""
    stance = getattr(torch.compiler, "set_stance", None)  # from torch 2.6 on
    with nullcontext() if stance is None or "torch._dynamo" not in sys.modules else stance("force_eager"):
        yield
