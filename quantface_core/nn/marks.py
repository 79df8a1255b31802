"""Marks: base classes by which a module tells other rooms what they may rely on; they compute nothing."""

from __future__ import annotations


class FusesUpsample:
    """A module that calls its convolutions through `forward_upsampled`, if they have it: see `swap.swap`."""


class Recomputable:
    """A module that, while `recomputed`, recomputes its activations in the backward pass: gradient checkpointing."""

    recomputed = False


class PlainBlock:
    """A transformer block that computes what diffusers' `BasicTransformerBlock` does; its subclasses may not."""


class PlainAttention:
    """An attention processor for diffusers whose output is the weighted means of the values, and nothing else."""


class GatesFirstHalf:
    """A gate as diffusers' `GEGLU`: the first half of its linear's output (`proj`) times a function of the second."""
