"""Backward passes that may be cut short, by a cancellation or by running out of memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def graph_freed_on_error() -> Iterator[None]:
    """Context manager around a backward pass: frees its autograd graph when it raises.

    Nodes that have not run yet stay in the thread's ready queue, along with every activation saved for them, until the
    thread's next backward pass. A trivial backward pass through a constant clears the queue.
    """
    try:
        yield
    except BaseException:
        with torch.inference_mode(False), torch.enable_grad():
            torch.zeros((), requires_grad=True).mul(1).backward()
        raise
