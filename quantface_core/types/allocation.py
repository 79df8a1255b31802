"""Bit allocation: what layers' widths cost and do, budgets, plans.

Their mappings count in comparisons but not in hashes, which dictionaries do not have: so all of them can be keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .bits import Bits


@dataclass(frozen=True)
class LayerSensitivity:
    """What one layer's bit widths cost, and how they affect the model's output."""

    macs: int  # multiply-accumulates over the measured batches; only ratios between layers matter
    parameters: int  # elements of the weight
    overhead: int  # bytes stored besides the integer weight: scales, bias, branch
    fixed: int | None  # width that no plan changes (first, last and time-embedding layers); None = free
    weight: Mapping[int, float] = field(hash=False)  # weight width -> the share of `error` it causes
    activation: Mapping[int, float] = field(hash=False)  # of activations; at the measured width both add up to 1
    error: float  # the output's squared error over its variance, this layer alone at the probe width or its fixed one
    perceptual: float  # the perceptual metric's loss there; 0 without a metric


@dataclass(frozen=True)
class Sensitivity:
    """The sensitivities of a model's layers, measured once and solved for any budget."""

    model: str  # name of a restorer's configuration, or of any other model's class
    perceptual: str  # name of the perceptual metric; empty = none
    rest_bytes: int  # bytes of everything in the file that is not a low-bit layer
    layers: Mapping[str, LayerSensitivity] = field(hash=False)  # by name, in network order
    # What it was measured with, as JSON has it: the config's fields but for widths; of a restorer also its images'
    # size in pixels and checksum. Empty = not recorded.
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Budget:
    """Upper limits of a bit plan; None = no limit. Averages include the layers of fixed width."""

    activation_bits: float | None = None  # average, weighted by multiply-accumulates
    weight_bits: float | None = None  # average, weighted by parameters
    megabytes: float | None = None  # size of the file's tensors, in units of 10^6 bytes, without its header
    operations: float | None = None  # bit operations, MACs x weight bits x activation bits; 1 = every layer at w8a8
    limits: Mapping[str, tuple[int, int]] = field(default_factory=dict, hash=False)  # module name -> (least, most) bits
    perceptual_weight: float = 0.1  # mu: weight of the perceptual loss against the relative squared error


@dataclass(frozen=True)
class BitPlan:
    """The bit widths of every layer."""

    model: str  # what it was solved for: the name of a restorer's configuration, or of any other model's class
    layers: Mapping[str, Bits] = field(hash=False)  # by name
