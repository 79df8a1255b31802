"""How low-rank branches are trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .execution import PRECISIONS

DistillMode = Literal["end-to-end", "blocks"]
"""How a restorer is distilled: as a whole, or block by block, which takes less memory and is slightly less accurate."""
DISTILL_MODES: tuple[DistillMode, ...] = ("end-to-end", "blocks")

TRAINING_PRECISIONS = (*PRECISIONS, "float16")
"""The precisions of autocast in training. float16, for GPUs without bfloat16, scales the loss, so that small gradients
do not underflow."""


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
