"""Backward passes that may be cut short, by a cancellation or for want of memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def graph_freed_on_error() -> Iterator[None]:
    """Around a backward pass: when it raises, its autograd graph is freed.

    The nodes that were still to run stay in the thread's ready queue, and with them every activation saved for them,
    until the thread's next backward pass: here that is one through a constant.
    """
    try:
        yield
    except BaseException:
        with torch.inference_mode(False), torch.enable_grad():
            torch.zeros((), requires_grad=True).mul(1).backward()
        raise
