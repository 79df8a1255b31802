"""`quantface distill`: train a low-bit restorer's branches until its pictures are the full-precision one's.

Runs under `accelerate launch` on several processes or GPUs as it is. A run that stopped goes on from its
folder when the same command is given again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ..errors import ModelError, UsageError
from ..io.atomic import atomic_path, check_writable
from ..types import DistillSettings, FitSettings
from .calibrate import images_sha256
from .devices import add_device, choose_device
from .faces import add_faces, read_faces

if TYPE_CHECKING:
    from torch import Tensor

    from ..restorer import Restorer
    from ..train.trainer import Trainer

_SHOWN = 4  # validation faces in the picture
_PRECISION = "of what is not integers (auto: bfloat16 where the device has it, else float32)"


def add_parser(commands: Any) -> None:
    fit, defaults = FitSettings(), DistillSettings()
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
    add("--steps", type=int, default=fit.steps, help=f"each block's in blocks mode ({fit.steps})")
    add("--batch-size", type=int, default=fit.batch_size, help=f"of a process and an accumulation ({fit.batch_size})")
    add("--accumulation", type=int, default=fit.accumulation, help="batches whose gradients are averaged (1)")
    add("--learning-rate", type=float, default=fit.learning_rate, help=f"({fit.learning_rate:g})")
    add("--warmup", type=int, default=fit.warmup, help=f"steps ({fit.warmup})")
    add("--weight-decay", type=float, default=fit.weight_decay, help="AdamW's (0)")
    add("--ema", type=float, default=fit.ema, help=f"of the averaged weights, which are kept ({fit.ema}); 0 = none")
    add("--validate-every", type=int, default=fit.validate_every, help=f"steps ({fit.validate_every})")
    add("--save-every", type=int, default=fit.save_every, help=f"steps ({fit.save_every})")
    add("--patience", type=int, default=fit.patience, help="validations without gain before it stops (0 = never)")
    add("--rank", type=int, default=defaults.rank, help=f"of the distillation branch ({defaults.rank})")
    add("--merge-rank", type=int, default=0, help="merge the trained branches to this rank: a smaller file (0 = not)")
    add("--learn-clips", action="store_true", help="train the activations' clipping ratios too")
    add("--perceptual", default="", metavar="METRIC", help="a term of ms_ssim, lpips, ... beside the squares")
    add("--precision", choices=("auto", "bfloat16", "float32"), default=defaults.precision, help=_PRECISION)
    add("--checkpointing", action="store_true", help="compute activations twice to save memory")
    add("--seed", type=int, default=fit.seed, help="of the images' order and the branch (0)")
    add_device(parser)
    add("--run", type=Path, dest="folder", help="curves, pictures and the state to go on from (OUTPUT.run)")
    add("--output", "-o", type=Path, required=True, help="the .safetensors file to write")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from ..io.checkpoint import load_restorer, read_notes, save_restorer
    from ..io.models import restorer_path
    from ..train.trainer import is_main_process, launched_device

    if arguments.output.suffix != ".safetensors":
        raise UsageError(f"--output {arguments.output}: name a .safetensors file")
    check_writable(arguments.output, "--output")
    given = {f.name: getattr(arguments, f.name) for f in fields(FitSettings)}
    chosen = ("rank", "merge_rank", "learn_clips", "perceptual", "precision", "checkpointing")
    settings = DistillSettings(fit=FitSettings(**given), **{name: getattr(arguments, name) for name in chosen})
    device, path = launched_device() or choose_device(arguments.device), restorer_path(arguments.model)
    restorer, teacher = (load_restorer(p, device) for p in (path, restorer_path(arguments.teacher)))
    images = read_faces(arguments.images, arguments.count, restorer.config.image_size, arguments.degrade)
    held = max(0, arguments.validation)
    if held >= len(images):
        raise UsageError(f"--validation {held} leaves none of {len(images)} images to train on")
    split = (images[: len(images) - held], images[len(images) - held :])
    folder = arguments.folder or arguments.output.with_suffix(".run")
    notes = train(restorer, teacher, *split, settings, folder, arguments.mode)
    if is_main_process():
        save_restorer(restorer, arguments.output, notes={**read_notes(path), **notes})
        print(f"{arguments.output}: {arguments.output.stat().st_size / 1e6:.1f} MB; curves in {folder}")
    return 0


def train(
    restorer: Restorer,
    teacher: Restorer,
    images: Tensor,
    val_images: Tensor,
    settings: DistillSettings,
    folder: Path,
    mode: str = "end-to-end",
) -> dict[str, str]:
    """Distill in place, with a bar, curves and a state in `folder`; returns what a file notes of it."""
    from ..stages.distill import distill, distill_blocks, resolved
    from ..train.trainer import is_main_process

    settings = resolved(settings, restorer.device)
    notes = {
        "distill": json.dumps({**asdict(settings), "mode": mode}),
        "distill_sha256": images_sha256(images),
    }
    identity = [notes, images_sha256(val_images), _weights_sha256(restorer), _weights_sha256(teacher)]
    watch = RunFolder(folder, hashlib.sha256(json.dumps(identity).encode()).hexdigest(), settings)
    with tqdm(desc="distill", unit="step", total=settings.fit.steps, disable=None if is_main_process() else True) as b:
        watch.bar = b
        if mode == "blocks":
            reports = distill_blocks(restorer, teacher, images, settings, watch.callbacks())
            first = [report.losses[0] for report in reports.values()]
            last = [report.losses[-1] for report in reports.values()]
            b.write(f"{len(reports)} blocks; mean loss {sum(first) / len(first):.2e} to {sum(last) / len(last):.2e}")
        else:
            report = distill(restorer, teacher, images, val_images, settings, watch.callbacks())
            best = max((score for _, score in report.scores), default=None)
            b.write(f"loss {report.losses[-1]:.2e}" + (f", best validation {best:.2f} dB" if best else ""))
    return notes


def _weights_sha256(model: Restorer) -> str:
    import torch

    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class RunFolder:
    """A run's folder: losses.png and faces.png as it goes, and state.safetensors to go on from.

    In blocks mode every block has a curve and a state of its own, its name before theirs.
    """

    def __init__(self, folder: Path, identity: str, settings: DistillSettings) -> None:
        """`identity` tells whose state it is: another run's is refused."""
        self.folder, self.identity, self.total = folder, identity, settings.fit.steps
        self.bar: Any = None

    def callbacks(self) -> Any:
        from ..stages.distill import Callbacks

        return Callbacks(self._stepped, self._save, self._pictures, self._resume)

    def _file(self, trainer: Trainer, name: str) -> Path:
        return self.folder / (f"{trainer.name}.{name}" if trainer.name else name)

    def _stepped(self, trainer: Trainer) -> None:
        self.bar.set_description(f"distill {trainer.name}".strip(), refresh=False)
        self.bar.update(trainer.done - self.bar.n)  # back to the start with every block
        scores = {"dB": f"{trainer.scores[-1][1]:.2f}"} if trainer.scores else {}
        self.bar.set_postfix(loss=f"{trainer.losses[-1]:.2e}", **scores)

    def _save(self, trainer: Trainer) -> None:
        from safetensors.torch import save_file

        from ..charts import draw_losses, save_chart
        from ..train.trainer import is_main_process

        if not is_main_process():
            return
        path = self._file(trainer, "state.safetensors")
        with atomic_path(path) as temporary:
            save_file(trainer.state(), temporary, {"run": self.identity})
        save_chart(draw_losses(trainer.losses, trainer.scores, self.total), self._file(trainer, "losses.png"))

    def _pictures(self, step: int, pictures: Tensor) -> None:
        from ..charts import draw_faces, save_chart
        from ..train.trainer import is_main_process

        if is_main_process():
            save_chart(draw_faces(pictures[:_SHOWN]), self.folder / "faces.png")

    def _resume(self, trainer: Trainer) -> None:
        from safetensors import SafetensorError, safe_open

        path = self._file(trainer, "state.safetensors")
        if not path.exists():
            return
        try:
            with safe_open(path, framework="pt") as file:
                if (file.metadata() or {}).get("run") != self.identity:
                    raise UsageError(f"{self.folder} holds a run of other models, settings or images: name another")
                trainer.resume({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        except (SafetensorError, OSError, KeyError) as error:
            raise ModelError(f"{path}: damaged ({error}): delete it to begin anew") from error
        self.bar.update(trainer.done - self.bar.n)
