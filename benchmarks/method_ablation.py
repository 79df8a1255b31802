"""Measure what each part of the method adds at 4 bits: from rounding to trained branches and allocated bits.

    python benchmarks/method_ablation.py [--steps 100] [--parts whole unet] [--keep FOLDER]
    python benchmarks/method_ablation.py --stressed                    # with a diffusion UNet's outliers
    python benchmarks/method_ablation.py --seed 1; ... --calibration 16    # how much results vary

On ../shared/faces/test; trains on ../shared/faces/train. `--keep` keeps each row's model, so that an interrupted run
resumes. The closed shares of the loss are relative to SVDQuant's recipe, the best untrained peer.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from images import SHARED, load, to_unit
from iqa import create_metric, score
from kept_training import KeptTraining
from methods import PLAIN, RECIPE, Method
from quantization_quality import run
from report import describe_machine, table
from savings import layer_costs
from stress import stress
from torch import Tensor

from quantface_core import load_restorer, restorer_path, save_restorer
from quantface_core.degrade import degrade
from quantface_core.nn.swap import quant_layers
from quantface_core.quant.bit_program import solve_plan
from quantface_core.restorer import RestorerModel
from quantface_core.stages.distill import distill
from quantface_core.stages.quantize import calibrate_restorer, images_at_once, quantize_restorer
from quantface_core.stages.sensitivity import measure_sensitivity
from quantface_core.types import Budget, RestorerDistillConfig, RestorerQuantConfig, Sensitivity, TrainerConfig

ACTIVATION_BITS, WEIGHT_BITS = 3.98, 4.23  # no more than uniform 4 bits, edge layers at 8 included
PEER = "SVDQuant's recipe"


ROWS = {
    "MaxMin": Method(PLAIN),
    PEER: Method(RECIPE),
    "ours: balanced": Method(RestorerQuantConfig(rank=0, rounding="nearest")),
    "+ SVD branch": Method(RestorerQuantConfig(rounding="nearest")),
    "+ compensated rounding": Method(),
    "+ distillation branch": Method(trained="distillation branch"),
    "+ both (QD-LoRA)": Method(trained="both"),
    f"+ allocation, A <= {ACTIVATION_BITS}": Method(trained="both", budget=Budget(ACTIVATION_BITS, WEIGHT_BITS)),
}


class Ablation:
    """The data that all rows share, and how a row's model is made and measured."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        test, train = (load(SHARED / "faces" / name) for name in ("test", "train"))
        test = test[: arguments.faces]
        self.clean = to_unit(test)
        self.degraded = to_unit([degrade(face, seed) for seed, face in enumerate(test)])
        # The seed shifts degradations too, and with them calibration and training images.
        first = 10_000 * arguments.seed
        faces = [degrade(face, first + i) for i, face in enumerate(train[: arguments.train])]
        self.images = to_unit(faces) * 2 - 1
        self.calibration = self.images[: arguments.calibration]
        self.full = load_restorer(restorer_path("quantface-mini"))
        if arguments.stressed:
            self.full = stress(self.full)
        self.statistics = calibrate_restorer(self.full, self.calibration)
        with layer_costs(self.full) as self.costs, torch.inference_mode():
            self.full(self.calibration[:1])
        self.sensitivity: Sensitivity | None = None
        self.resumed = 0.0  # CPU seconds that the last row's training had taken in an earlier run
        self.exact = run(self.full, self.degraded)
        self.metrics = {name: create_metric(name) for name in ("psnr", "ms_ssim", "niqe")}

    def sensitivities(self, parts: tuple[str, ...]) -> Sensitivity:
        """The sensitivities of these parts' layers; measured once."""
        if self.sensitivity is None:
            settings = RestorerQuantConfig(seed=self.arguments.seed)
            self.sensitivity = measure_sensitivity(self.full, self.statistics, self.calibration[:4], settings)
        layers = {n: x for n, x in self.sensitivity.layers.items() if not parts or n.split(".")[0] in parts}
        return replace(self.sensitivity, layers=layers)

    def model(self, name: str, row: Method, parts: tuple[str, ...], state: Path | None = None) -> RestorerModel:
        """A row's model, made from the statistics; `state` is a file that keeps its training, if it is trained."""
        self.resumed = 0.0
        keep = self.arguments.keep
        path = keep / f"{'-'.join(parts)} {name}.safetensors" if keep else None
        if path and path.exists():
            return load_restorer(path)
        model = copy.deepcopy(self.full)
        quantization = replace(row.settings, parts=parts, seed=self.arguments.seed)
        plan = solve_plan(self.sensitivities(parts), row.budget) if row.budget else None
        with row.patched():
            quantize_restorer(model, self.statistics, images_at_once(self.full, self.images), quantization, plan=plan)
        if row.trained:
            trainer = TrainerConfig(
                steps=self.arguments.steps, learning_rate=self.arguments.learning_rate, validate_every=10**6,
                save_every=5, seed=self.arguments.seed,
            )  # fmt: skip
            only = row.trained == "distillation branch"
            kept = KeptTraining(name, path.with_suffix(".training") if path else state)
            settings = RestorerDistillConfig(trainer, only_distillation=only)
            distill(model, self.full, self.images, self.images[:0], settings, kept.callbacks())
            self.resumed = kept.resumed
        if path:
            save_restorer(model, path, torch.float32)
        return model

    def bits(self, model: RestorerModel) -> tuple[float, float]:
        """Average (weight, activation) bits of the low-bit layers, by parameters and multiply-accumulates."""
        layers = [(self.costs[name], layer.format.bits) for name, layer in quant_layers(model).items()]
        weights = sum(cost.weights * bits.weight for cost, bits in layers) / sum(cost.weights for cost, _ in layers)
        activations = sum(cost.macs * bits.activation for cost, bits in layers) / sum(cost.macs for cost, _ in layers)
        return weights, activations

    def face_scores(self, pictures: Tensor) -> dict[str, Tensor]:
        """PSNR to full precision, and PSNR and MS-SSIM to the originals, of each of the test faces: [N] by name."""
        psnr, ms_ssim = self.metrics["psnr"], self.metrics["ms_ssim"]
        same = torch.full((len(pictures),), torch.inf, dtype=torch.float64)
        return {
            "to_full": same if pictures is self.exact else score(psnr, pictures, self.exact),
            "psnr": score(psnr, pictures, self.clean),
            "ms_ssim": score(ms_ssim, pictures, self.clean),
        }

    def scores(self, pictures: Tensor) -> list[float]:
        """Their means, and that of NIQE."""
        found = [*self.face_scores(pictures).values(), score(self.metrics["niqe"], pictures)]
        return [float(values.mean()) for values in found]


def megabytes(model: RestorerModel) -> float:
    """The size of a model's file, MB."""
    with tempfile.TemporaryDirectory() as folder:
        save_restorer(model, Path(folder) / "model.safetensors")
        return (Path(folder) / "model.safetensors").stat().st_size / 1e6


def closed(found: dict[str, list[float]]) -> list[list[str | float]]:
    """Each row's gain in PSNR to full precision, and the shares of SVDQuant's loss that it closes."""
    full, peer = found["full precision"], found[PEER]
    return [
        [name, s[0] - peer[0], *((s[i] - peer[i]) / max(full[i] - peer[i], 1e-9) * 100 for i in (1, 2))]
        for name, s in found.items()
        if name not in ("full precision", PEER, "MaxMin")
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100, help="of every distillation")
    parser.add_argument("--learning-rate", type=float, default=TrainerConfig.learning_rate, help="of distillation")
    parser.add_argument("--faces", type=int, default=64, help="test faces measured")
    parser.add_argument("--train", type=int, default=256, help="training faces distilled on")
    parser.add_argument("--calibration", type=int, default=64, help="training faces calibrated with")
    parser.add_argument("--seed", type=int, default=0, help="of rotations, degradations and training")
    parser.add_argument("--parts", nargs="+", choices=["whole", "unet"], default=["whole", "unet"])
    parser.add_argument("--rows", nargs="+", metavar="TEXT", help="only rows whose name contains one of these")
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
        found, size = {"full precision": exact}, megabytes(ablation.full)
        rows: list[list[str | float]] = [["full precision", "", *exact[1:], size, 16, 16]]
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
