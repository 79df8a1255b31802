"""Models that `torch.compile` gave, where hooks have to be called."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch


@contextmanager
def uncompiled() -> Iterator[None]:
    """While it lasts, what `torch.compile` gave runs as it is written: compiled code calls no hooks."""
    stance = getattr(torch.compiler, "set_stance", None)  # from torch 2.6 on
    with nullcontext() if stance is None or "torch._dynamo" not in sys.modules else stance("force_eager"):
        yield
