"""What each part of the method brings at 4 bits: from rounding to trained branches and allocated bits.

    python benchmarks/method_ablation.py [--steps 100] [--parts whole unet] [--keep FOLDER]
    python benchmarks/method_ablation.py --stressed                    # with a diffusion UNet's outliers
    python benchmarks/method_ablation.py --seed 1; ... --calibration 16    # how much it moves

On ../shared/faces/test; trains on ../shared/faces/train. `--keep` keeps each row's model, so that a run that
was cut off goes on. The shares of the loss that are closed count from SVDQuant's recipe, the best untrained peer.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from iqa import FOLDER, create_metric, score
from kept_training import KeptTraining
from mini_quality import load, to_unit
from quantization_quality import PLAIN, RECIPE, run
from report import describe_machine, table
from stress import stress
from torch import Tensor, nn

from quantface_core import OneStepRestorer, load_restorer, restorer_path, save_restorer
from quantface_core.degrade import degrade
from quantface_core.nn.swap import quant_layers, quantizable
from quantface_core.quant.bit_program import solve
from quantface_core.stages.distill import distill
from quantface_core.stages.quantize import calibrate_restorer, images_at_once, quantize_restorer
from quantface_core.stages.sensitivity import measure_sensitivity
from quantface_core.types import Budget, DistillSettings, QuantizeSettings, Sensitivity, TrainerSettings

ACTIVATION_BITS, WEIGHT_BITS = 3.98, 4.23  # no more than uniform 4 bits spend, edges at 8 included
PEER = "SVDQuant's recipe"


@dataclass(frozen=True)
class Row:
    settings: QuantizeSettings
    trained: str = ""  # "", "distillation branch" or "both"
    budget: Budget | None = None  # bits are allocated within it
    patches: Mapping[str, Any] = field(default_factory=dict)  # constants of the library, for what has no setting


ROWS = {
    "MaxMin": Row(PLAIN),
    PEER: Row(RECIPE),
    "ours: balanced": Row(QuantizeSettings(rank=0, rounding="nearest")),
    "+ SVD branch": Row(QuantizeSettings(rounding="nearest")),
    "+ compensated rounding": Row(QuantizeSettings()),
    "+ distillation branch": Row(QuantizeSettings(), "distillation branch"),
    "+ both (QD-LoRA)": Row(QuantizeSettings(), "both"),
    f"+ allocation, A <= {ACTIVATION_BITS}": Row(QuantizeSettings(), "both", Budget(ACTIVATION_BITS, WEIGHT_BITS)),
}


class Ablation:
    """The data that all rows share, and how one row's model is made and measured."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        test, train = (load(FOLDER / "faces" / name) for name in ("test", "train"))
        test = test[: arguments.faces]
        self.clean = to_unit(test)
        self.degraded = to_unit([degrade(face, seed) for seed, face in enumerate(test)])
        # The seed shifts degradations too: other calibration images, other training images.
        first = 10_000 * arguments.seed
        faces = [degrade(face, first + i) for i, face in enumerate(train[: arguments.train])]
        self.images = to_unit(faces) * 2 - 1
        self.calibration = self.images[: arguments.calibration]
        self.full = load_restorer(restorer_path("quantface-mini"))
        if arguments.stressed:
            self.full = stress(self.full)
        self.statistics = calibrate_restorer(self.full, self.calibration)
        self.costs = layer_costs(self.full, self.calibration[:1])
        self.sensitivity: Sensitivity | None = None
        self.resumed = 0.0  # seconds of the processor that the last row's training had taken in an earlier run
        self.exact = run(self.full, self.degraded)
        self.metrics = {name: create_metric(name) for name in ("psnr", "ms_ssim", "niqe")}

    def sensitivities(self, parts: tuple[str, ...]) -> Sensitivity:
        """Of the layers of these parts; measured once."""
        if self.sensitivity is None:
            settings = QuantizeSettings(seed=self.arguments.seed)
            self.sensitivity = measure_sensitivity(self.full, self.statistics, self.calibration[:4], settings)
        layers = {n: x for n, x in self.sensitivity.layers.items() if not parts or n.split(".")[0] in parts}
        return replace(self.sensitivity, layers=layers)

    def model(self, name: str, row: Row, parts: tuple[str, ...], state: Path | None = None) -> OneStepRestorer:
        """A row's model, from the statistics; `state` is a file that keeps its training, if it is trained."""
        self.resumed = 0.0
        keep = self.arguments.keep
        path = keep / f"{'-'.join(parts)} {name}.safetensors" if keep else None
        if path and path.exists():
            return load_restorer(path)
        model = copy.deepcopy(self.full)
        settings = replace(row.settings, parts=parts, seed=self.arguments.seed)
        plan = solve(self.sensitivities(parts), row.budget) if row.budget else None
        with ExitStack() as patched:
            for target, value in row.patches.items():
                patched.enter_context(patch(target, value))
            quantize_restorer(model, self.statistics, images_at_once(self.full, self.images), settings, plan=plan)
        if row.trained:
            trainer = TrainerSettings(
                steps=self.arguments.steps, learning_rate=self.arguments.learning_rate, validate_every=10**6,
                save_every=5, seed=self.arguments.seed,
            )  # fmt: skip
            only = row.trained == "distillation branch"
            kept = KeptTraining(name, path.with_suffix(".training") if path else state)
            settings = DistillSettings(trainer, only_distillation=only)
            distill(model, self.full, self.images, self.images[:0], settings, kept.callbacks())
            self.resumed = kept.resumed
        if path:
            save_restorer(model, path, torch.float32)
        return model

    def bits(self, model: OneStepRestorer) -> tuple[float, float]:
        """Average (weight, activation) bits of the low-bit layers, by parameters and multiply-accumulates."""
        layers = quant_layers(model)
        widths = {name: layer.format.bits for name, layer in layers.items()}
        costs = {name: self.costs[name] for name in layers}
        weights = sum(parameters * widths[n].weight for n, (parameters, _) in costs.items())
        activations = sum(macs * widths[n].activation for n, (_, macs) in costs.items())
        return weights / sum(p for p, _ in costs.values()), activations / sum(m for _, m in costs.values())

    def scores(self, pictures: Tensor) -> list[float]:
        psnr, ms_ssim, niqe = (self.metrics[name] for name in ("psnr", "ms_ssim", "niqe"))
        same = pictures is self.exact
        close = float("inf") if same else float(score(psnr, pictures, self.exact).mean())
        columns = [score(psnr, pictures, self.clean), score(ms_ssim, pictures, self.clean), score(niqe, pictures)]
        return [close, *(float(c.mean()) for c in columns)]


def layer_costs(model: nn.Module, image: Tensor) -> dict[str, tuple[int, int]]:
    """(parameters of the weight, multiply-accumulates of an image) of every layer that can be quantized, by name."""
    costs: dict[str, tuple[int, int]] = {}

    def counted(name: str, layer: nn.Module, output: Tensor) -> None:
        places = output[0].numel() // layer.weight.shape[0]
        costs[name] = layer.weight.numel(), places * layer.weight.numel()

    hooks = [
        layer.register_forward_hook(lambda module, _, output, name=name: counted(name, module, output))
        for name, layer in quantizable(model).items()
    ]
    with torch.inference_mode():
        model(image)
    for hook in hooks:
        hook.remove()
    return costs


def megabytes(model: OneStepRestorer) -> float:
    with tempfile.TemporaryDirectory() as folder:
        save_restorer(model, Path(folder) / "model.safetensors")
        return (Path(folder) / "model.safetensors").stat().st_size / 1e6


def closed(found: dict[str, list[float]]) -> list[list[str | float]]:
    """Each trained row's share of SVDQuant's loss that it closes, and its gain to full precision."""
    full, peer = found["full precision"], found[PEER]
    return [
        [name, s[0] - peer[0], *((s[i] - peer[i]) / max(full[i] - peer[i], 1e-9) * 100 for i in (1, 2))]
        for name, s in found.items()
        if name not in ("full precision", PEER, "MaxMin")
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100, help="of every distillation")
    parser.add_argument("--learning-rate", type=float, default=TrainerSettings.learning_rate, help="of it")
    parser.add_argument("--faces", type=int, default=64, help="test faces measured")
    parser.add_argument("--train", type=int, default=256, help="training faces distilled on")
    parser.add_argument("--calibration", type=int, default=64, help="training faces calibrated with")
    parser.add_argument("--seed", type=int, default=0, help="of rotations, degradations and training")
    parser.add_argument("--parts", nargs="+", choices=["whole", "unet"], default=["whole", "unet"])
    parser.add_argument("--rows", nargs="+", metavar="TEXT", help="only rows whose name holds one of these")
    parser.add_argument("--stressed", action="store_true", help="on the stressed copy of the mini")
    parser.add_argument("--keep", type=Path, help="folder that keeps each row's model")
    arguments = parser.parse_args()
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    ablation = Ablation(arguments)
    print(
        f"{arguments.faces} faces, {arguments.steps} steps of batch 4 on {arguments.train}, calibrated with "
        f"{arguments.calibration}, seed {arguments.seed}{', stressed' * arguments.stressed}\n{describe_machine()}",
        flush=True,
    )
    header = ["PSNR to full (dB)", "PSNR (dB)", "MS-SSIM", "NIQE", "MB", "bits W", "bits A"]
    for part in arguments.parts:
        parts = () if part == "whole" else ("unet",)
        exact = ablation.scores(ablation.exact)
        found, rows = {"full precision": exact}, [["full precision", "", *exact[1:], megabytes(ablation.full), 16, 16]]
        for name, row in ROWS.items():
            if arguments.rows and not any(text in name for text in [*arguments.rows, PEER]):
                continue
            model = ablation.model(name, row, parts)
            found[name] = ablation.scores(run(model, ablation.degraded))
            rows.append([name, *found[name], megabytes(model), *ablation.bits(model)])
            print(f"{part} {name}: {found[name][0]:.2f} dB", file=sys.stderr)
        print(f"\n{table([part, *header], rows)}\n", flush=True)
        print(table([f"against {PEER}", "gain (dB)", "PSNR closed (%)", "MS-SSIM closed (%)"], closed(found), 1))


if __name__ == "__main__":
    main()
