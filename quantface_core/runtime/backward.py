"""Backward passes that may be cut short, by a cancellation or for want of memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def whole_or_forgotten() -> Iterator[None]:
    """Around a backward pass: when it raises, nothing keeps its graph.

    Autograd leaves what it had still to do in a queue of the thread, and with it all maps of the graph, gigabytes, till
    the thread's next backward pass: here that is a pass through nothing.
    """
    try:
        yield
    except BaseException:
        with torch.inference_mode(False), torch.enable_grad():
            torch.zeros((), requires_grad=True).mul(1).backward()
        raise
