"""How layers are quantized: the format of one, the configuration of all, the report on each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .bits import Bits

Rounding = Literal["nearest", "compensated"]
"""How weights are rounded: each to the nearest code, or GPTQ-style, so that errors cancel in the layer's output."""
ROUNDINGS: tuple[Rounding, ...] = ("compensated", "nearest")

Branch = Literal["fisher", "svd"]
"""How a low-rank branch is chosen: by an SVD weighted with the Fisher information of the model's output, or a plain SVD
of the weight."""
BRANCHES: tuple[Branch, ...] = ("fisher", "svd")

FLOAT_BRANCH = 16
"""The `branch_bits` of a float16 low-rank branch; the other widths in `BRANCH_BITS` store integers."""
BRANCH_BITS = (8, FLOAT_BRANCH)


@dataclass(frozen=True)
class LayerFormat:
    """The format of one low-bit layer: everything about it that its tensors do not already determine."""

    weight_bits: int  # in BITS
    activation_bits: int  # in BITS
    clip: float = 1.0  # clipping ratio of activations, a share of their absmax; 1 = not clipped
    block: int = 1  # channels per Hadamard rotation block, see kernels/hadamard.py; 1 = no rotation
    seed: int = 0  # of the rotation's random signs
    rank: int = 0  # of the low-rank branch; 0 = none
    zero_point: int | None = None  # number of activation codes below zero, of 2^bits; None = symmetric codes
    per_pixel: bool = False  # of a pointwise convolution: per-pixel activation scales instead of per-image ones
    branch_bits: int = FLOAT_BRANCH  # bits of the branch's weights, in BRANCH_BITS

    @property
    def bits(self) -> Bits:
        return Bits(self.weight_bits, self.activation_bits)


@dataclass(frozen=True)
class QuantConfig:
    """How every layer of a model is quantized; with every switch at its neutral value this is plain MaxMin rounding."""

    weight_bits: int = 4  # in BITS
    activation_bits: int = 4  # in BITS
    scaling: bool = True  # balance channels between activations and weights; the exponent is searched per layer
    block: int = 64  # channels per Hadamard rotation block, at most; 1 = no rotation
    search_rotation: bool = True  # per layer: drop the rotation, or redraw its signs, where that lowers output error
    search_zero_point: bool = True  # use all 2^bits activation codes; unrotated layers search the zero point
    clipping: bool = True  # search clipping ratios of weights and activations
    rank: int = 32  # of the low-rank branch; at most half of the layer's smaller channel count; 0 = none
    branch_bits: int = 8  # bits of the branch's weights, in BRANCH_BITS
    seed: int = 0  # of rotation signs and calibration crops
    rounding: Rounding = "compensated"  # of weights: "compensated" is GPTQ-style; "nearest" is faster
    branch: Branch = "fisher"  # "svd" needs no gradients during calibration, and so less memory

    @property
    def wants_fisher(self) -> bool:
        """Whether calibration needs gradients, to accumulate Fisher information."""
        return self.rank > 0 and self.branch == "fisher"


@dataclass(frozen=True)
class RestorerQuantConfig(QuantConfig):
    """`QuantConfig` for a restorer: also the width of its edge layers and which parts to quantize."""

    edge_bits: int = 8  # weight and activation bits of first and last convolutions and the time embedding
    parts: tuple[str, ...] = ()  # names of the restorer's parts to quantize; empty = all


@dataclass(frozen=True)
class LayerReport:
    """What quantizing one layer did. Errors are relative: MSE of the output over the exact output's mean square."""

    name: str
    shape: tuple[int, ...]  # of the weight
    format: LayerFormat
    exponent: float | None  # of the channel scaling; None = no scaling
    outlier_ratio: float  # the input's largest channel absmax over the median one, before balancing
    error_before: float  # of MaxMin rounding: no balancing, no clipping, no branch
    error_after: float  # of the quantized layer
