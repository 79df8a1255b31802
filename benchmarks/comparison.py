"""Compare ours with every rival at its best, at every width: a table and a plot of quality over bits and file size.

    python benchmarks/comparison.py --keep FOLDER [--plot docs/comparison.png]
    python benchmarks/comparison.py --keep FOLDER --stressed     # outliers before every layer
    python benchmarks/comparison.py --keep FOLDER --rows "ours" "SVDQuant" --widths w4a4 --seed 1

Rivals are built by the library's own code with parts of the method switched off or exchanged, from the same
statistics and images, and trained as ours is. `--keep` holds each row's results, of every face too, and unfinished
trainings: an interrupted run resumes. A second table, kept as gains.json, says by how much ours is better than each
rival of the same bits, and what of that may be chance.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from itertools import product
from pathlib import Path
from statistics import fmean

from bootstrap import Difference, paired_difference
from comparison_plot import draw_comparison, family
from method_ablation import Ablation, megabytes
from methods import METHODS, OURS, Method
from quantization_quality import run
from report import describe_machine, table

from quantface_core.charts import save_chart
from quantface_core.types import Budget, TrainerConfig

RIVALS = {
    "MaxMin": "MaxMin rounding",
    "SmoothQuant's scaling": "scaling",
    "QuaRot's recipe": "rotation of all channels + clips + GPTQ (QuaRot's recipe)",
    "SVDQuant's recipe": "SVD branch + scaling (SVDQuant's recipe)",
    "SVDQuant with GPTQ": "the same with GPTQ, as its authors have it",
    "SVDQuant with GPTQ and our searches": "the same with GPTQ and our searches for clips and zero points",
    "SVDQuant with GPTQ and our searches at rank 32 in 8 bits": "the same with rank 32 in 8 bits, as ours has",
}
BEST = "SVDQuant with GPTQ and our searches at rank 32 in 8 bits"  # the rival that is also trained
WIDTHS = ("w3a3", "w3a4", "w4a4", "w6a6", "w8a8")
BUDGETS = {3.5: 3.75, 3.98: 4.23}  # activation bits: the matching weight bits, edge layers at 8 included


@dataclass(frozen=True)
class Point:
    """One row's results."""

    method: str
    bits: str  # as requested
    weight_bits: float  # averages over all low-bit layers, edge layers at 8 included
    activation_bits: float
    megabytes: float
    stored_bits: float  # of the file, per parameter: branch and scales included
    seconds: float  # of CPU time, to make it from statistics
    to_full: float  # PSNR to full precision, dB
    psnr: float  # to the originals, dB
    ms_ssim: float
    of_faces: Mapping[str, Sequence[float]] = field(default_factory=dict)  # the last three, face by face


def rows(widths: list[str]) -> dict[tuple[str, str], Method]:
    """Every row by (method, bits)."""
    found = {
        (name, bits): METHODS[method].at(bits) for bits in widths for name, method in {**RIVALS, "ours": OURS}.items()
    }
    for activation_bits, weight_bits in BUDGETS.items():
        found["ours, allocated", f"{activation_bits}"] = Method(budget=Budget(activation_bits, weight_bits))
    rival, budget = METHODS[RIVALS[BEST]], Budget(3.98, BUDGETS[3.98])
    found[f"{BEST}, trained", "w4a4"] = replace(rival, trained="both")
    found[f"{BEST}, our allocation, trained", "3.98"] = replace(rival, trained="both", budget=budget)
    found["ours, trained", "w4a4"] = Method(trained="both")
    found["ours, allocated, trained", "3.98"] = Method(trained="both", budget=budget)
    return found


class Results:
    """Points by method and bits, in a file of JSON lines; `of` are the settings that they belong to."""

    def __init__(self, path: Path, of: dict[str, object]) -> None:
        self.path, self.of, self.points = path, json.dumps(of, sort_keys=True), {}
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        for line in map(json.loads, lines):
            if line["of"] == self.of:
                point = Point(**line["point"])
                self.points[point.method, point.bits] = point

    def add(self, point: Point) -> None:
        self.points[point.method, point.bits] = point
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"of": self.of, "point": asdict(point)}) + "\n")


def measure(ablation: Ablation, name: str, bits: str, row: Method, parameters: int, state: Path) -> Point:
    """Make a row's model and measure it; `state` is a file that keeps its training."""
    began = time.process_time()
    model = ablation.model(f"{name} {bits}", row, (), state)
    seconds = ablation.resumed + time.process_time() - began
    of_faces = {name: scores.tolist() for name, scores in ablation.face_scores(run(model, ablation.degraded)).items()}
    size = megabytes(model)
    averages = ablation.bits(model)
    to_full, psnr, ms_ssim = (fmean(scores) for scores in of_faces.values())
    stored_bits = size * 8e6 / parameters
    return Point(name, bits, *averages, size, stored_bits, seconds, to_full, psnr, ms_ssim, of_faces)


@dataclass(frozen=True)
class Gain:
    """By how much ours is better than a rival, on the same faces."""

    rival: str
    bits: str  # of both, as requested
    ours: str  # which of our rows
    to_full: Difference
    psnr: Difference
    ms_ssim: Difference


def gains(points: Sequence[Point], seed: int) -> list[Gain]:
    """Ours against every rival of the same bits, trained or not as it is; without rows kept before faces were."""
    found = []
    for rival, ours in product(points, points):
        alike = rival.bits == ours.bits and _is_trained(rival) == _is_trained(ours)
        if _is_ours(ours) and not _is_ours(rival) and alike and ours.of_faces and rival.of_faces:
            pairs = {name: (own, rival.of_faces[name]) for name, own in ours.of_faces.items()}
            differences = {name: paired_difference(*pair, seed) for name, pair in pairs.items()}
            found.append(Gain(rival.method, rival.bits, ours.method, **differences))
    return found


def _is_ours(point: Point) -> bool:
    return family(point) == "ours"


def _is_trained(point: Point) -> bool:
    return point.method.endswith(", trained")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, required=True, help="folder that keeps each row's results")
    parser.add_argument("--faces", type=int, default=64, help="test faces measured")
    parser.add_argument("--train", type=int, default=256, help="training faces distilled on")
    parser.add_argument("--calibration", type=int, default=64, help="training faces calibrated with")
    parser.add_argument("--steps", type=int, default=100, help="of every distillation")
    parser.add_argument("--learning-rate", type=float, default=TrainerConfig.learning_rate, help="of distillation")
    parser.add_argument("--seed", type=int, default=0, help="of rotations, degradations and training")
    parser.add_argument("--widths", nargs="+", default=list(WIDTHS))
    parser.add_argument("--rows", nargs="+", metavar="TEXT", help="only rows whose name starts with one of these")
    parser.add_argument("--stressed", action="store_true", help="on the stressed copy of the mini")
    parser.add_argument("--untrained", action="store_true", help="leave out trained and allocated rows")
    parser.add_argument("--plot", type=Path, help="PNG of quality over bits and over file size")
    arguments = parser.parse_args()
    arguments.keep.mkdir(parents=True, exist_ok=True)
    chosen = {
        key: row
        for key, row in rows(arguments.widths).items()
        if not arguments.rows or any(key[0].startswith(text) for text in arguments.rows)
        if not arguments.untrained or not (row.trained or row.budget)
    }
    what = ("faces", "train", "calibration", "steps", "learning_rate", "seed", "stressed")
    results = Results(arguments.keep / "comparison.jsonl", {name: getattr(arguments, name) for name in what})
    ablation = Ablation(argparse.Namespace(**{**vars(arguments), "keep": None}))
    parameters = sum(p.numel() for p in ablation.full.parameters())
    exact = ablation.scores(ablation.exact)
    print(
        f"{arguments.faces} test faces, calibrated with {arguments.calibration}, trained {arguments.steps} steps, "
        f"seed {arguments.seed}{', stressed' * arguments.stressed}; "
        f"full precision: {exact[1]:.2f} dB, MS-SSIM {exact[2]:.4f}"
        f"\n{describe_machine()}\n",
        flush=True,
    )
    for (name, bits), row in chosen.items():
        if (name, bits) not in results.points:
            state = arguments.keep / f"{sha256(f'{results.of} {name} {bits}'.encode()).hexdigest()[:12]}.training"
            results.add(measure(ablation, name, bits, row, parameters, state))
            state.unlink(missing_ok=True)
            print(f"{name} {bits}: {results.points[name, bits].to_full:.2f} dB", file=sys.stderr, flush=True)
    points = [results.points[key] for key in chosen]
    header = [
        "method", "asked", "bits W", "bits A", "MB", "stored bits a weight", "seconds",
        "PSNR to full (dB)", "PSNR to original (dB)", "MS-SSIM",
    ]  # fmt: skip
    print(table(header, [list(asdict(point).values())[: len(header)] for point in points], 2))
    compared = gains(points, arguments.seed)
    (arguments.keep / "gains.json").write_text(json.dumps([asdict(gain) for gain in compared], indent=1), "utf-8")
    header = ["rival", "asked", "ours", "PSNR to full (dB)", "PSNR to original (dB)", "MS-SSIM"]
    cells = [[g.rival, g.bits, g.ours, g.to_full.shown(), g.psnr.shown(), g.ms_ssim.shown(4)] for g in compared]
    print(f"\nOurs less each rival, and the paired bootstrap's 95 % interval over the faces:\n\n{table(header, cells)}")
    if arguments.plot:
        save_chart(draw_comparison(points), arguments.plot)


if __name__ == "__main__":
    main()
