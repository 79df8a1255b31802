"""`quantface allocate`: give every layer the bits that the picture needs, within a budget."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..io.atomic import check_report
from ..types import Budget, QuantizeSettings
from .devices import add_device_argument, resolve_device
from .faces import add_faces, face_source
from .progress import ProgressBars

if TYPE_CHECKING:
    from ..types import Sensitivity


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("allocate", help="choose each layer's bits within a budget", description=__doc__)
    add = parser.add_argument
    add("model", help="a known model's name or a .safetensors file, full precision")
    add_faces(parser, count=16)
    add("--activation-bits", type=float, help="average at most, weighed by multiply-accumulates; such as 3.98")
    add("--weight-bits", type=float, help="average at most, weighed by parameters; such as 4.0")
    add("--megabytes", type=float, help="size of the file's numbers at most; its header adds a little")
    add("--operations", type=float, help="bit operations at most, as a share of all at 8 bits; such as 0.3")
    add(
        "--limit",
        type=_limit,
        action="append",
        default=[],
        metavar="MODULE=LOW-HIGH",
        help="such as vae.decoder=6-8",
    )
    add("--perceptual", default="ms_ssim", metavar="METRIC", help="ms_ssim, ssim, or any full-reference one of pyiqa")
    add("--sensitivity", type=Path, metavar="FILE", help="read from here if there, else measure and write it")
    add("--rank", type=int, default=QuantizeSettings().rank, help="of the low-rank branch (32)")
    add("--seed", type=int, default=0, help="of rotation signs and samples (0)")
    add("--output", "-o", type=Path, required=True, help="the plan to write, JSON")
    add("--chart", type=Path, help="draw bits and sensitivities along the network, PNG")
    add_device_argument(parser)
    parser.set_defaults(run=run)


def _limit(text: str) -> tuple[str, tuple[int, int]]:
    from ..quant.bit_program import parse_limit

    try:
        return parse_limit(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(arguments: argparse.Namespace) -> int:
    from ..pipelines.allocate import AllocateRequest, allocate
    from ..quant.bit_program import check_budget

    written: list[Path] = []
    for option in ("output", "chart", "sensitivity"):
        check_report(getattr(arguments, option), written, f"--{option}")
        written += [path for path in [getattr(arguments, option)] if path]
    if arguments.chart and arguments.chart.suffix.lower() != ".png":
        raise UsageError(f"--chart {arguments.chart}: a chart is written as .png")
    budget = Budget(
        arguments.activation_bits,
        arguments.weight_bits,
        arguments.megabytes,
        arguments.operations,
        dict(arguments.limit),
    )
    check_budget(budget)
    result = allocate(AllocateRequest(_sensitivity(arguments), budget, arguments.output, arguments.chart))
    print(f"{arguments.output}: {result.summary}")
    return 0


def _sensitivity(arguments: argparse.Namespace) -> Sensitivity:
    """What is kept of an earlier measurement, or a new one."""
    from ..pipelines.allocate import MeasureRequest, check_metric, kept_sensitivity, measure
    from ..pipelines.fetch import load_model

    kept = arguments.sensitivity
    if kept and kept.exists():
        sensitivity = kept_sensitivity(kept, arguments.perceptual)
        print(f"sensitivities of {sensitivity.model} from {kept}: neither model nor images are read")
        return sensitivity
    check_metric(arguments.perceptual)
    faces, settings = face_source(arguments), QuantizeSettings(rank=arguments.rank, seed=arguments.seed)
    with ProgressBars() as callbacks:
        model = load_model(arguments.model, resolve_device(arguments), callbacks)
        return measure(MeasureRequest(model, faces, settings, arguments.perceptual, kept), callbacks)
