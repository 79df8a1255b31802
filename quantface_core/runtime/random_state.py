"""Torch's random state, seeded for a block of code and restored afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Context manager: seeds torch on the CPU and on GPUs, Apple's too, and restores its random state on exit."""
    # Not `torch.manual_seed`: it also reseeds kinds of devices whose state is not restored here.
    generators = [torch.default_generator]
    if torch.cuda.is_initialized():
        generators += torch.cuda.default_generators
    states = [generator.get_state() for generator in generators]
    apples_state = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None  # of no public generator
    for generator in generators:
        generator.manual_seed(seed)
    if apples_state is not None:
        torch.mps.manual_seed(seed)
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        if apples_state is not None:
            torch.mps.set_rng_state(apples_state)
