"""The frozen dataclasses that stages exchange: faces, formats, configurations, reports and plans."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
"""RGB image [H, W, 3]; 0 is black, the dtype's maximum white."""

Crop = NDArray[np.float32]
"""Aligned RGB crop of a face, [S, S, 3]; 0 is black, 1 white."""

Plane = NDArray[np.float32]
"""One value per pixel, [H, W]: a mask or a share, from 0 to 1."""

BITS = range(3, 9)
"""The supported bit widths of weights and activations."""

DistillMode = Literal["end-to-end", "blocks"]
"""How a restorer is distilled: as a whole, or block by block, which takes less memory and is slightly less accurate."""
DISTILL_MODES: tuple[DistillMode, ...] = ("end-to-end", "blocks")

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

PRECISIONS = ("auto", "float32", "bfloat16")
"""Compute dtype of everything that is not integer; auto = bfloat16 where the device has it, else float32."""
TRAINING_PRECISIONS = (*PRECISIONS, "float16")
"""The precisions of autocast in training. float16, for GPUs without bfloat16, scales the loss, so that small gradients
do not underflow."""

DEVICES = ("auto", "cpu", "cuda", "mps")
"""What computes; auto = the first that the machine has of CUDA (or ROCm), Apple's MPS and the CPU."""

DEFAULT_RESTORER = "quantface-mini-w4a4"
"""The bundled model, used when none is named."""


@dataclass(frozen=True)
class Face:
    """One detected face, in the photo's pixel coordinates (pixel centres lie at integers)."""

    box: tuple[float, float, float, float]  # left, top, width, height in pixels; may extend past the border
    landmarks: tuple[tuple[float, float], ...]  # x, y in pixels, left and right as seen in the image: left eye,
    # right eye, nose, left mouth corner, right mouth corner
    score: float  # the detector's confidence, 0 to 1; 1 for a face given by hand

    @property
    def size(self) -> float:
        """Side length, in pixels, of the square that has the box's area."""
        return float(np.sqrt(max(self.box[2], 0.0) * max(self.box[3], 0.0)))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; coordinates are rounded to hundredths of a pixel, the score to four decimals."""
        return {
            "box": [round(v, 2) for v in self.box],
            "landmarks": [[round(v, 2) for v in point] for point in self.landmarks],
            "score": round(self.score, 4),
        }


@dataclass(frozen=True, eq=False)
class RestoredFace:
    """One face of a photo that was restored, though not necessarily changed."""

    position: int  # in `Restoration.faces`
    crop: Crop = field(repr=False)  # the restorer's input
    restored_crop: Crop = field(repr=False)  # its output, colour-matched, before blending
    applied_strength: float  # mean share of the change that was applied: 0 = none of it, 1 = all
    removed_artifacts: str = ""  # from detail finer than the crop: "noise", "blocks" or "" for none


@dataclass(frozen=True, eq=False)
class Restoration:
    """The result of restoring one photo."""

    pixels: Pixels  # [H * upscale, W * upscale, 3] or as the background given, in the photo's dtype
    mask: Plane  # [H, W] of `pixels`; 0 = unchanged by any face
    faces: tuple[Face, ...]  # the faces that pass the options, in their order
    restored: tuple[RestoredFace, ...]  # those chosen and in view, in the order of their positions


class Bits(NamedTuple):
    """The bit widths of one layer's weights and activations."""

    weight: int
    activation: int

    @classmethod
    def parse(cls, text: str) -> Bits:
        """`w4a6` -> Bits(4, 6). Raises ConfigError for anything else, including widths outside `BITS`."""
        match = re.fullmatch(r"w(\d)a(\d)", text)
        if not match or not {int(match[1]), int(match[2])} <= set(BITS):
            raise ConfigError(f"{text!r:.40} is not wXaY with {widths_in_words()} each, such as w4a6")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"w{self.weight}a{self.activation}"


def widths_in_words() -> str:
    """`BITS` as messages name them: "3 to 8 bits"."""
    return f"{BITS.start} to {BITS.stop - 1} bits"


def check_bits(bits: int) -> None:
    """Raise ConfigError for a width outside `BITS`."""
    if bits not in BITS:
        raise ConfigError(f"widths are {widths_in_words()}, got {bits}")


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


@dataclass(frozen=True)
class TrainerConfig:
    """Optimizer, schedule and checkpointing of a training run, whatever its loss."""

    steps: int = 400  # optimizer steps
    batch_size: int = 4  # images per process and accumulation step
    accumulation: int = 1  # gradient accumulation steps per optimizer step; gradients are averaged
    learning_rate: float = 1e-4  # AdamW's peak, after warm-up; cosine decay takes it to a twentieth
    warmup: int = 20  # steps of linear warm-up
    weight_decay: float = 0.0
    ema: float = 0.98  # decay of the averaged weights, which are validated and saved; 0 = no averaging
    validate_every: int = 50  # steps
    save_every: int = 50  # steps
    patience: int = 0  # early stopping after this many validations without improvement; 0 = off
    seed: int = 0  # of the order of images and the initial distillation branch


@dataclass(frozen=True)
class DistillConfig:
    """What QD-LoRA trains, and how (docs/method.md, section 4)."""

    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    rank: int = 16  # of the distillation branch; 0 = train the quantization branch alone
    only_distillation: bool = False  # freeze the quantization branch
    learn_clips: bool = False  # also train the clipping ratios of activations
    precision: str = "auto"  # of autocast, in TRAINING_PRECISIONS; float32 = no autocast
    merge_rank: int = 0  # merge both branches by SVD into one of at most this rank: a smaller file; 0 = concatenated


@dataclass(frozen=True)
class RestorerDistillConfig(DistillConfig):
    """`DistillConfig` for a restorer: also the loss of one-step restorers, and gradient checkpointing."""

    latent_weight: float = 0.1  # of the restored latent's MSE; the output image's MSE has weight 1
    prompt_weight: float = 0.01  # of the embedder's relative squared error (MSE over mean square)
    perceptual: str = ""  # full-reference metric added to the loss, such as ms_ssim or lpips; empty = none
    perceptual_weight: float = 0.02  # of that metric's loss
    checkpointing: bool = False  # gradient checkpointing: slower, less memory


@dataclass(frozen=True)
class LayerSensitivity:
    """What one layer's bit widths cost, and how they affect the model's output."""

    macs: int  # multiply-accumulates per image
    parameters: int  # elements of the weight
    overhead: int  # bytes stored besides the integer weight: scales, bias, branch
    fixed: int | None  # width that no plan changes (first, last and time-embedding layers); None = free
    weight: Mapping[int, float]  # weight width -> the share of `error` it causes
    activation: Mapping[int, float]  # the same for activations; at the measured width both add up to 1
    error: float  # the output's squared error over its variance, this layer alone at the probe width or its fixed one
    perceptual: float  # the perceptual metric's loss there; 0 without a metric


@dataclass(frozen=True)
class Sensitivity:
    """The sensitivities of a model's layers, measured once and solved for any budget."""

    model: str  # name of a restorer's configuration, or of any other model's class
    perceptual: str  # name of the perceptual metric; empty = none
    rest_bytes: int  # bytes of everything in the file that is not a low-bit layer
    layers: Mapping[str, LayerSensitivity]  # by name, in network order


@dataclass(frozen=True)
class Budget:
    """Upper limits of a bit plan; None = no limit. Averages include the layers of fixed width."""

    activation_bits: float | None = None  # average, weighted by multiply-accumulates
    weight_bits: float | None = None  # average, weighted by parameters
    megabytes: float | None = None  # size of the file's tensors, in units of 10^6 bytes, without its header
    operations: float | None = None  # bit operations, MACs x weight bits x activation bits; 1 = every layer at w8a8
    limits: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # module name -> (least, most) bits
    perceptual_weight: float = 0.1  # mu: weight of the perceptual loss against the relative squared error


@dataclass(frozen=True)
class BitPlan:
    """The bit widths of every layer."""

    model: str  # what it was solved for: the name of a restorer's configuration, or of any other model's class
    layers: Mapping[str, Bits]  # by name
