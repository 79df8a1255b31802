"""`quantface distill`: train a low-bit restorer's branches.

Its images then match the full-precision model's more closely. Also runs under
`accelerate launch`, on several processes or GPUs. A run that was stopped
resumes from its folder when the same command is run again.
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..types import DISTILL_MODES, TRAINING_PRECISIONS, RestorerDistillConfig, TrainerConfig
from .devices import MODEL_HELP, add_device_argument, resolve_device
from .faces import add_faces, face_source
from .outputs import check_model_output, size_of
from .progress import ProgressBars

if TYPE_CHECKING:
    from ..pipelines.distill import DistillResult

_PRECISION = "of autocast (auto: bfloat16 where the device has it, else float32; float16 scales the loss)"


def add_parser(commands: Any) -> None:
    train, defaults = TrainerConfig(), RestorerDistillConfig()
    parser = commands.add_parser(
        "distill",
        help="train a low-bit model's branches",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", help="a low-bit model's name, or its file")
    add("--teacher", required=True, help=f"its full-precision original: {MODEL_HELP}")
    add_faces(parser, count=None)
    add("--validation", type=int, default=16, help="use the last N images for validation (16); 0 = keep the last step")
    add("--mode", choices=DISTILL_MODES, default=DISTILL_MODES[0], help="blocks: one at a time, little memory")
    add("--steps", type=int, default=train.steps, help=f"training steps; per block in blocks mode ({train.steps})")
    add(
        "--batch-size",
        type=int,
        default=train.batch_size,
        help=f"faces per gradient ({train.batch_size})",
    )
    add("--accumulation", type=int, default=train.accumulation, help="batches averaged per gradient step (1)")
    add("--learning-rate", type=float, default=train.learning_rate, help=f"AdamW's ({train.learning_rate:g})")
    add("--warmup", type=int, default=train.warmup, help=f"warm-up steps ({train.warmup})")
    add("--weight-decay", type=float, default=train.weight_decay, help="AdamW's (0)")
    add(
        "--ema",
        type=float,
        default=train.ema,
        help=f"decay of the weights' moving average, which is saved ({train.ema})",
    )
    add("--validate-every", type=int, default=train.validate_every, help=f"interval in steps ({train.validate_every})")
    add("--save-every", type=int, default=train.save_every, help=f"interval in steps ({train.save_every})")
    add("--patience", type=int, default=train.patience, help="validations without gain before stopping (0 = never)")
    add("--rank", type=int, default=defaults.rank, help=f"rank of the distillation branch ({defaults.rank})")
    add("--merge-rank", type=int, default=0, help="merge the trained branches to this rank: a smaller file (0 = off)")
    add("--learn-clips", action="store_true", help="also train the activations' clipping ratios")
    add("--perceptual", default="", metavar="METRIC", help="add a perceptual loss: ms_ssim, lpips, ...")
    add("--precision", choices=TRAINING_PRECISIONS, default=defaults.precision, help=_PRECISION)
    add("--checkpointing", action="store_true", help="recompute activations to save memory")
    add("--seed", type=int, default=train.seed, help="for the order of the images and the branch (0)")
    add_device_argument(parser)
    add("--run", type=Path, dest="folder", help="folder for curves, images and the state to resume from (OUTPUT.run)")
    add("--output", "-o", type=Path, required=True, help="the .safetensors file to write")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from ..pipelines.distill import DistillRequest, distill
    from ..pipelines.faces import training_faces
    from ..pipelines.fetch import load_model
    from ..train.processes import is_main_process, launched_device
    from ..train.settings import checked

    check_model_output(arguments.output, arguments.model, arguments.teacher)
    trainer = checked(TrainerConfig(**{f.name: getattr(arguments, f.name) for f in fields(TrainerConfig)}))
    validation = max(0, arguments.validation)
    if arguments.count is None:
        arguments.count = training_faces(trainer, validation)
    faces = face_source(arguments)
    chosen = ("rank", "merge_rank", "learn_clips", "perceptual", "precision", "checkpointing")
    options = {name: getattr(arguments, name) for name in chosen}
    config = RestorerDistillConfig(trainer=trainer, **options)
    folder = arguments.folder or arguments.output.with_suffix(".run")
    device = launched_device() or resolve_device(arguments)
    with ProgressBars() as callbacks:
        model, teacher = (load_model(name, device, callbacks) for name in (arguments.model, arguments.teacher))
        request = DistillRequest(model, teacher, faces, config, arguments.mode, validation, folder, arguments.output)
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
