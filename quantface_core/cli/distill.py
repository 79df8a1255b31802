"""`quantface distill`: train a low-bit restorer's branches until its pictures are the full-precision one's.

Runs under `accelerate launch` on several processes or GPUs as it is. A run that stopped goes on from its
folder when the same command is given again.
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..types import PRECISIONS, DistillSettings, TrainerSettings
from .devices import add_device_argument, resolve_device
from .faces import add_faces, face_source
from .outputs import check_model_output, size_of
from .progress import ProgressBars

if TYPE_CHECKING:
    from ..pipelines.distill import DistillResult

_PRECISION = "of what is not integers (auto: bfloat16 where the device has it, else float32)"


def add_parser(commands: Any) -> None:
    train, defaults = TrainerSettings(), DistillSettings()
    parser = commands.add_parser(
        "distill",
        help="train a low-bit model's branches",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", help="a low-bit model's name or .safetensors file")
    add("--teacher", required=True, help="its full-precision original")
    add_faces(parser, count=10_000)
    add("--validation", type=int, default=16, help="the last so many images validate (16); 0 = keep the last step")
    add("--mode", choices=("end-to-end", "blocks"), default="end-to-end", help="blocks: one at a time, little memory")
    add("--steps", type=int, default=train.steps, help=f"each block's in blocks mode ({train.steps})")
    add(
        "--batch-size",
        type=int,
        default=train.batch_size,
        help=f"faces of one gradient ({train.batch_size})",
    )
    add("--accumulation", type=int, default=train.accumulation, help="batches whose gradients are averaged (1)")
    add("--learning-rate", type=float, default=train.learning_rate, help=f"AdamW's ({train.learning_rate:g})")
    add("--warmup", type=int, default=train.warmup, help=f"steps ({train.warmup})")
    add("--weight-decay", type=float, default=train.weight_decay, help="AdamW's (0)")
    add(
        "--ema",
        type=float,
        default=train.ema,
        help=f"decay of the weights' average, which is saved ({train.ema})",
    )
    add("--validate-every", type=int, default=train.validate_every, help=f"steps ({train.validate_every})")
    add("--save-every", type=int, default=train.save_every, help=f"steps ({train.save_every})")
    add("--patience", type=int, default=train.patience, help="validations without gain before it stops (0 = never)")
    add("--rank", type=int, default=defaults.rank, help=f"of the distillation branch ({defaults.rank})")
    add("--merge-rank", type=int, default=0, help="merge the trained branches to this rank: a smaller file (0 = not)")
    add("--learn-clips", action="store_true", help="train the activations' clipping ratios too")
    add("--perceptual", default="", metavar="METRIC", help="a term of ms_ssim, lpips, ... beside the squares")
    add("--precision", choices=PRECISIONS, default=defaults.precision, help=_PRECISION)
    add("--checkpointing", action="store_true", help="compute activations twice to save memory")
    add("--seed", type=int, default=train.seed, help="of the images' order and the branch (0)")
    add_device_argument(parser)
    add("--run", type=Path, dest="folder", help="curves, pictures and the state to go on from (OUTPUT.run)")
    add("--output", "-o", type=Path, required=True, help="the .safetensors file to write")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from ..pipelines.distill import DistillRequest, distill
    from ..pipelines.fetch import load_model
    from ..train.trainer import is_main_process, launched_device

    check_model_output(arguments.output)
    faces = face_source(arguments)
    given = {f.name: getattr(arguments, f.name) for f in fields(TrainerSettings)}
    chosen = ("rank", "merge_rank", "learn_clips", "perceptual", "precision", "checkpointing")
    settings = DistillSettings(trainer=TrainerSettings(**given), **{name: getattr(arguments, name) for name in chosen})
    folder = arguments.folder or arguments.output.with_suffix(".run")
    device = launched_device() or resolve_device(arguments)
    with ProgressBars() as callbacks:
        model, teacher = (load_model(name, device, callbacks) for name in (arguments.model, arguments.teacher))
        request = DistillRequest(
            model, teacher, faces, settings, arguments.mode, max(0, arguments.validation), folder, arguments.output
        )
        result = distill(request, callbacks)
    if is_main_process():
        print(_summary(result))
        print(f"{arguments.output}: {size_of(arguments.output)}; curves in {folder}")
    return 0


def _summary(result: DistillResult) -> str:
    if "" not in result.reports:
        first, last = (
            sum(report.losses[i] for report in result.reports.values()) / len(result.reports) for i in (0, -1)
        )
        return f"{len(result.reports)} blocks; mean loss {first:.2e} to {last:.2e}"
    text = f"loss {result.losses[-1]:.2e}"
    if result.scores:
        text += f", validation {result.scores[0][1]:.2f} dB, at its best {max(s for _, s in result.scores):.2f}"
    return f"{text}\n{result.advice}".rstrip()
