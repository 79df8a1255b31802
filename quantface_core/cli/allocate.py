"""`quantface allocate`: give every layer the bits that the picture needs, within a budget."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..io.atomic import check_writable
from ..types import Budget, QuantizeSettings, Sensitivity
from .devices import add_device, choose_device
from .faces import add_faces, read_faces
from .progress import bar

if TYPE_CHECKING:
    from torch import Tensor

    from ..restorer import Restorer

_MEASURED = 4  # images the sensitivities are measured on: the ranking of layers hardly moves with more


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("allocate", help="choose each layer's bits within a budget", description=__doc__)
    add = parser.add_argument
    add("model", help="a known model's name or a .safetensors file, full precision")
    add_faces(parser, count=16)
    add("--activation-bits", type=float, help="average at most, weighed by multiply-accumulates; such as 3.98")
    add("--weight-bits", type=float, help="average at most, weighed by parameters; such as 4.0")
    add("--megabytes", type=float, help="size of the file at most")
    add("--operations", type=float, help="bit operations at most, as a share of all at 8 bits; such as 0.3")
    add(
        "--limit",
        type=_limit,
        action="append",
        default=[],
        metavar="ROOM=LOW-HIGH",
        help="such as vae.decoder=6-8",
    )
    add("--perceptual", default="ms_ssim", metavar="METRIC", help="ms_ssim, ssim, or any full-reference one of pyiqa")
    add("--sensitivity", type=Path, metavar="FILE", help="read from here if there, else measure and write it")
    add("--rank", type=int, default=QuantizeSettings().rank, help="of the low-rank branch (16)")
    add("--seed", type=int, default=0, help="of rotation signs and samples (0)")
    add("--output", "-o", type=Path, required=True, help="the plan to write, JSON")
    add("--chart", type=Path, help="draw bits and sensitivities along the network, PNG")
    add_device(parser)
    parser.set_defaults(run=run)


def _limit(text: str) -> tuple[str, tuple[int, int]]:
    from ..quant.bit_program import parse_limit

    try:
        return parse_limit(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(arguments: argparse.Namespace) -> int:
    from ..charts import draw_bits, save_chart
    from ..io.checkpoint import load_restorer
    from ..io.models import restorer_path
    from ..io.plans import load_sensitivity, save_plan, save_sensitivity
    from ..quant.bit_program import describe, solve

    for option in ("output", "chart", "sensitivity"):
        if path := getattr(arguments, option):
            check_writable(path, f"--{option}")
    budget = Budget(
        arguments.activation_bits,
        arguments.weight_bits,
        arguments.megabytes,
        arguments.operations,
        dict(arguments.limit),
    )
    _check(budget, arguments)
    saved = arguments.sensitivity
    if saved and saved.exists():
        sensitivity = load_sensitivity(saved)
        if sensitivity.perceptual != arguments.perceptual:
            raise UsageError(f"{saved} was measured with {sensitivity.perceptual}: ask for that, or name another file")
        print(f"sensitivities of {sensitivity.model} from {saved}: neither model nor images are read")
    else:
        restorer = load_restorer(restorer_path(arguments.model), choose_device(arguments.device))
        images = read_faces(arguments.images, arguments.count, restorer.config.image_size, arguments.degrade)
        settings = QuantizeSettings(rank=arguments.rank, seed=arguments.seed)
        sensitivity = measure(restorer, images, settings, arguments.perceptual)
        if saved:
            save_sensitivity(sensitivity, saved)
    plan = solve(sensitivity, budget)
    save_plan(plan, arguments.output)
    if arguments.chart:
        save_chart(draw_bits(plan, sensitivity), arguments.chart)
    print(f"{arguments.output}: {describe(plan, sensitivity)}")
    return 0


def _check(budget: Budget, arguments: argparse.Namespace) -> None:
    """Raise UsageError for what would only show after minutes of measuring."""
    given = (budget.activation_bits, budget.weight_bits, budget.megabytes, budget.operations)
    if not any(value is not None for value in given):
        raise UsageError("give at least one budget: activation bits, weight bits, megabytes or operations")
    if wrong := [value for value in given if value is not None and not 0 < value < float("inf")]:
        raise UsageError(f"a budget is a number above 0, got {wrong[0]}")
    if arguments.chart and arguments.chart.suffix.lower() != ".png":
        raise UsageError(f"--chart {arguments.chart}: a chart is written as .png")
    if not (arguments.sensitivity and arguments.sensitivity.exists()):
        from ..metrics.by_name import full_reference

        full_reference(arguments.perceptual)


def measure(restorer: Restorer, images: Tensor, settings: QuantizeSettings, perceptual: str) -> Sensitivity:
    """Calibrate on all images, measure on the first few, with bars."""
    from ..nn.swap import quant_layers
    from ..stages.quantize import calibrate_restorer
    from ..stages.sensitivity import measure_sensitivity

    if quant_layers(restorer):
        raise UsageError("sensitivities are measured on a full-precision model, this one is quantized")
    with bar("calibrate", "image") as progress:
        statistics = calibrate_restorer(restorer, images, progress)
    with bar("measure", "per mille") as progress:
        return measure_sensitivity(restorer, statistics, images[:_MEASURED], settings, perceptual, progress)
