"""QD-LoRA's block mode on OSDFace at full size: seconds and peak memory of each block.

    PYTHONPATH=. python benchmarks/block_mode.py [--steps 5] [--batch-size 1] [--work FOLDER] [--tiny]

Weights are random, the low-bit model's too (`random_models.py`): neither time nor memory depends on them. Teacher,
low-bit model (w4a4 with low-rank branches) and training each run in their own process, so that peaks are separate; a
block's row shows the peak up to its end. `--work` keeps the two models (4.5 GB), `--tiny` tries the script at narrow
widths.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from random_models import make
from report import describe_machine, table
from speed import resident

from quantface_core import load_restorer
from quantface_core.restorer import OSDFACE
from quantface_core.stages.distill import distill_blocks
from quantface_core.train.trainer import Trainer
from quantface_core.train.training import TrainerCallbacks
from quantface_core.types import RestorerDistillConfig, TrainerConfig
from tests.random_originals import NARROW

STAGES = {"teacher": "fp32", "low-bit": "w4a4"}
"""The models made before training, and their precisions."""


def peak() -> float:
    """This process's peak memory so far, GB (10^9 bytes)."""
    return resident("VmHWM") / 1e3


def row(name: str, seconds: float, loss: str = "") -> None:
    print(json.dumps([name, seconds, peak(), loss]), flush=True)


def train(work: Path, steps: int, batch_size: int) -> None:
    """Distill every block, printing a row as each one ends."""
    began = time.perf_counter()
    restorer, teacher = (load_restorer(work / f"{name}.safetensors") for name in ("low-bit", "teacher"))
    row("load both", time.perf_counter() - began)
    size = restorer.config.image_size
    images = torch.rand(2 * batch_size, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    before = [time.perf_counter()]

    def stepped(trainer: Trainer) -> None:
        if trainer.finished:
            now = time.perf_counter()
            row(trainer.name, (now - before[0]) / steps, f"{trainer.losses[0]:.2e} to {trainer.losses[-1]:.2e}")
            before[0] = now

    settings = RestorerDistillConfig(TrainerConfig(steps=steps, batch_size=batch_size, warmup=1))
    distill_blocks(restorer, teacher, images, settings, TrainerCallbacks(on_step=stepped))
    row("all blocks", time.perf_counter() - began)


def stage(name: str, arguments: argparse.Namespace) -> None:
    """Do one process's work."""
    if name == "train":
        train(arguments.work, arguments.steps, arguments.batch_size)
        return
    began = time.perf_counter()
    make(NARROW if arguments.tiny else OSDFACE, STAGES[name], arguments.work / f"{name}.safetensors")
    row(f"make {name} model", time.perf_counter() - began)


def measure(arguments: argparse.Namespace, work: Path) -> None:
    """Run the stages that are not done yet, and print their rows."""
    rows = []
    for name in [*STAGES, "train"]:
        if (work / f"{name}.safetensors").exists():
            continue
        command = [sys.executable, __file__, "--stage", name, "--work", str(work), "--steps", str(arguments.steps)]
        command += ["--batch-size", str(arguments.batch_size)] + ["--tiny"] * arguments.tiny
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout or ():
                rows.append(json.loads(line))
                print(line.strip(), file=sys.stderr, flush=True)
        if process.returncode:
            raise SystemExit(f"failed ({process.returncode}): {' '.join(command)}")
    print(f"{describe_machine()}; random weights{', NARROW WIDTHS' if arguments.tiny else ''}")
    print(f"{arguments.steps} steps per block, batches of {arguments.batch_size}; a block's seconds are per step\n")
    print(table(["", "seconds", "peak so far (GB)", "loss"], rows, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder to keep the models in (default: a temporary one)")
    parser.add_argument("--steps", type=int, default=5, help="per block (5)")
    parser.add_argument("--batch-size", type=int, default=1, help="images per step (1)")
    parser.add_argument("--tiny", action="store_true", help="narrow widths, to try the script")
    parser.add_argument("--stage", choices=[*STAGES, "train"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        stage(arguments.stage, arguments)
    elif arguments.work:
        arguments.work.mkdir(parents=True, exist_ok=True)
        measure(arguments, arguments.work)
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure(arguments, Path(folder))


if __name__ == "__main__":
    main()
