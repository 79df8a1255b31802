"""The plain frozen values that stages hand each other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
"""RGB picture [H, W, 3]; the dtype's full range is black to white."""

BITS = range(3, 9)
"""The widths, in bits, that weights and activations may have."""

DistillMode = Literal["end-to-end", "blocks"]
"""How a restorer is trained: as a whole, or block after block, in little memory and a little worse."""

Rounding = Literal["nearest", "compensated"]
"""How weights become integers: each to its nearest, or so that their errors cancel in the layer's output."""
ROUNDINGS: tuple[Rounding, ...] = ("compensated", "nearest")

Branch = Literal["fisher", "svd"]
"""What a low-rank branch keeps: what the model's output depends on most, or the largest part of the weight."""
BRANCHES: tuple[Branch, ...] = ("fisher", "svd")

FLOAT_BRANCH = 16
"""Bits of a low-rank branch whose numbers are floats; in all others of `BRANCH_BITS` they are integers."""
BRANCH_BITS = (8, FLOAT_BRANCH)

PRECISIONS = ("auto", "float32", "bfloat16")
"""Of what is computed between integers, and of autocast in training; auto = bfloat16 where the device has it."""

DEFAULT_RESTORER = "quantface-mini-w4a4"
"""The bundled model that is used when none is named."""


@dataclass(frozen=True)
class Face:
    """One detected face, in the photo's pixel coordinates (a pixel's centre is at whole numbers)."""

    box: tuple[float, float, float, float]  # left, top, width, height in pixels; may reach past the border
    landmarks: tuple[tuple[float, float], ...]  # x, y in pixels: the picture's left eye, right eye, nose,
    # left mouth corner, right mouth corner
    score: float  # the detector's confidence, 0 to 1; 1 when the face was given by hand

    @property
    def size(self) -> float:
        """Side of the square with the box's area, in pixels."""
        return float(np.sqrt(max(self.box[2], 0.0) * max(self.box[3], 0.0)))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary, rounded to hundredths of a pixel."""
        return {
            "box": [round(v, 2) for v in self.box],
            "landmarks": [[round(v, 2) for v in point] for point in self.landmarks],
            "score": round(self.score, 4),
        }


@dataclass(frozen=True)
class RestoreOptions:
    """How a photo's faces are chosen, restored and put back."""

    faces: str | tuple[int, ...] = "all"  # "all", "largest", or positions in the stable order, from 0
    order: str = "left-to-right"  # or "size" (largest first), "confidence" (surest first): what positions count
    min_size: float = 0.0  # pixels, side of the face's box; 0 = any size
    min_confidence: float = 0.7  # 0 to 1; below it the detector's faces are ignored
    strength: float | Literal["auto"] = "auto"  # "auto": by pixel, what helps; 0 = the photo as it was, 1 = restored
    color: str = "wavelet"  # "none", "adain" (mean and spread) or "wavelet" (all low frequencies) of the photo
    upscale: int = 1  # 1, 2 or 4 times the photo's size
    feather: float = 0.32  # 0 to 1: the share of the face mask's radius over which it fades; 0 = a hard rim
    batch_size: int = 0  # faces restored at once, in as much more memory; 0 = what is quickest on the device
    seed: int | None = None  # None = the latent's mode; a number = a latent sampled with that seed
    fidelity: float | None = None  # CodeFormer's: 0 = what looks best, 1 = nearest to the photo; None = its own choice


@dataclass(frozen=True)
class Restoration:
    """What restoring one photo gave."""

    pixels: Pixels  # [H * upscale, W * upscale, 3], the photo's dtype
    mask: NDArray[np.float32]  # [H * upscale, W * upscale] in 0 to 1; 0 = not touched by a face
    faces: tuple[Face, ...]  # every face found or given, in the stable order
    restored: tuple[int, ...]  # positions in `faces` that were restored
    crops: tuple[NDArray[np.float32], ...] = field(repr=False)  # as the restorer saw them: [S, S, 3] in 0 to 1
    restored_crops: tuple[NDArray[np.float32], ...] = field(repr=False)  # colour-matched, before they are blended
    blend_masks: tuple[NDArray[np.float32], ...] = field(default=(), repr=False)  # [S, S], 0 to 1: of the change
    applied_strength: tuple[float, ...] = ()  # of each face's change inside its mask, 0 = left as it was, 1 = all
    removed_artifacts: tuple[str, ...] = ()  # of a face larger than its crop, in its fine detail: "noise", "blocks", ""


class Bits(NamedTuple):
    """The widths of one layer's weights and activations, in bits."""

    weight: int
    activation: int

    @classmethod
    def parse(cls, text: str) -> Bits:
        """`w4a6` -> Bits(4, 6). Raises ConfigError for anything else, widths out of `BITS` included."""
        match = re.fullmatch(r"w(\d)a(\d)", text)
        if not match or not {int(match[1]), int(match[2])} <= set(BITS):
            raise ConfigError(f"{text!r:.40} is not wXaY with {widths_in_words()} each, such as w4a6")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"w{self.weight}a{self.activation}"


def widths_in_words() -> str:
    """`BITS` as users are told of them."""
    return f"{BITS.start} to {BITS.stop - 1} bits"


@dataclass(frozen=True)
class LayerFormat:
    """How one layer is stored and computed at low bits: all that its tensors do not say themselves."""

    weight_bits: int  # in BITS, as the next
    activation_bits: int
    clip: float = 1.0  # activations are clipped at this share of their largest magnitude; 1 = not clipped
    block: int = 1  # channels mixed by the rotation, see kernels/hadamard.py; 1 = no rotation
    seed: int = 0  # of the rotation's signs
    rank: int = 0  # of the low-rank branch beside the integers; 0 = none
    zero_point: int | None = None  # how many of all 2^bits activation codes are below zero; None = symmetric ones
    per_pixel: bool = False  # of a pointwise convolution: an activation scale a pixel, not one an image
    branch_bits: int = FLOAT_BRANCH  # of the branch's numbers, in BRANCH_BITS

    @property
    def bits(self) -> Bits:
        return Bits(self.weight_bits, self.activation_bits)


@dataclass(frozen=True)
class QuantConfig:
    """What quantizing does to every layer of a model; the neutral value of each switch is MaxMin rounding."""

    weight_bits: int = 4  # in BITS, as the next
    activation_bits: int = 4
    scaling: bool = True  # per-channel scales between activations and weights, exponent searched
    block: int = 64  # largest rotation block; 1 = no rotation
    search_rotation: bool = True  # leave a layer unrotated, or draw its signs again, where its output is nearer so
    search_zero_point: bool = True  # use all activation codes, fewer of them where a layer's input is not
    clipping: bool = True  # search clipping ratios of weights and activations
    rank: int = 32  # of the low-rank branch beside the integers, at most half of a layer's channels; 0 = none
    branch_bits: int = 8  # of its numbers, in BRANCH_BITS
    seed: int = 0  # of rotation signs and of calibration crops
    rounding: Rounding = "compensated"  # of weights: compensated as GPTQ does; "nearest" is quicker
    branch: Branch = "fisher"  # "svd" needs no gradients, which take memory

    @property
    def wants_fisher(self) -> bool:
        """Whether calibration has to take gradients."""
        return self.rank > 0 and self.branch == "fisher"


@dataclass(frozen=True)
class QuantizeSettings(QuantConfig):
    """`QuantConfig` for a restorer, with the bits of its edge layers and the parts to quantize."""

    edge_bits: int = 8  # of first and last convolutions and the time embedding
    parts: tuple[str, ...] = ()  # what is quantized, of the restorer's parts; none named = all


@dataclass(frozen=True)
class LayerReport:
    """What quantizing one layer did; errors are mean squared over mean square of the exact output."""

    name: str
    shape: tuple[int, ...]  # of the weight
    format: LayerFormat
    exponent: float | None  # of the scaling; None = not scaled
    outlier_ratio: float  # largest channel magnitude over the median one, before balancing
    error_before: float  # rounded as it is, no balancing, no clipping, no branch
    error_after: float


@dataclass(frozen=True)
class TrainerSettings:
    """How parameters are trained, whatever the loss."""

    steps: int = 400
    batch_size: int = 4  # images a process and an accumulation turn
    accumulation: int = 1  # turns a step; the gradient is their mean
    learning_rate: float = 1e-4  # AdamW's, after warm-up, before the cosine takes it to a twentieth
    warmup: int = 20  # steps
    weight_decay: float = 0.0
    ema: float = 0.98  # of the averaged weights, which are validated and kept; 0 = the last step's
    validate_every: int = 50  # steps
    save_every: int = 50  # steps
    patience: int = 0  # validations without a better score before stopping; 0 = all steps
    seed: int = 0  # of the images' order and of the distillation branch


@dataclass(frozen=True)
class DistillSettings:
    """What QD-LoRA trains and against what (DESIGN.md section 3.3)."""

    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    rank: int = 16  # of the distillation branch; 0 = the quantization branch alone learns
    only_distillation: bool = False  # leave the quantization branch as it is
    learn_clips: bool = False  # train the activations' clipping ratios too
    latent_weight: float = 0.1  # of the restored latent's squared error, beside the picture's, which counts 1
    prompt_weight: float = 0.01  # of the embedder's relative squared error
    perceptual: str = ""  # a metric's name, such as ms_ssim or lpips; empty = none
    perceptual_weight: float = 0.02
    precision: str = "auto"  # of autocast: bfloat16 where the device has it, else float32, which is none
    merge_rank: int = 0  # both branches end as one of this rank, by SVD: a smaller file; 0 = side by side
    checkpointing: bool = False  # compute activations again in the backward pass: slower, less memory


@dataclass(frozen=True)
class LayerSensitivity:
    """What one layer's widths cost and what they do to the model's output."""

    macs: int  # multiply-accumulates an image
    parameters: int  # of the weight
    overhead: int  # bytes stored beside the integers
    fixed: int | None  # bits that no plan changes (first, last and time-embedding layers); None = free
    weight: Mapping[int, float]  # share of the error below that each weight width makes
    activation: Mapping[int, float]  # the same of activations; both add up to 1 at the width that was measured
    error: float  # the output's squared error over its variance, this layer alone at the probe width, or its fixed one
    perceptual: float  # the perceptual metric's loss there; 0 = none


@dataclass(frozen=True)
class Sensitivity:
    """A model's layers in the order of the network; measured once, solved for any budget."""

    model: str  # a restorer's configuration's name, any other's class
    perceptual: str  # the metric's name; empty = none
    rest_bytes: int  # of a file beside its low-bit layers
    layers: Mapping[str, LayerSensitivity]


@dataclass(frozen=True)
class Budget:
    """What a plan may spend; None = not limited. Averages count every layer, those of fixed width too."""

    activation_bits: float | None = None  # average, weighed by multiply-accumulates
    weight_bits: float | None = None  # average, weighed by parameters
    megabytes: float | None = None  # of the file's tensors, 10^6 bytes; its header comes beside them
    operations: float | None = None  # sum of multiply-accumulates x weight bits x activation bits; 1 = all at 8
    limits: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # module (such as vae.decoder): least, most
    perceptual_weight: float = 0.1  # mu: the perceptual loss beside the relative squared error


@dataclass(frozen=True)
class BitPlan:
    """Every layer's widths, by name."""

    model: str  # the one it was made for: a restorer's configuration's name, any other's class
    layers: Mapping[str, Bits]
