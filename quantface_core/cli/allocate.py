"""`quantface allocate`: give every layer the bits that the image needs, within a budget."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..quant.budgets import check_budget, parse_limit
from ..types import Budget, RestorerQuantConfig
from .devices import MODEL_HELP, add_device_argument, resolve_device
from .faces import add_faces, face_source
from .outputs import check_report, file_of
from .parsed import parsed
from .progress import ProgressBars

if TYPE_CHECKING:
    from ..types import Sensitivity

_PERCEPTUAL = "ms_ssim, ssim, psnr, gmsd, or a full-reference metric of pyiqa (ms_ssim)"


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("allocate", help="choose each layer's bits within a budget", description=__doc__)
    add = parser.add_argument
    add("model", help=f"{MODEL_HELP}; full precision")
    add_faces(parser, count=16, required=False)
    add("--activation-bits", type=float, help="maximum average, weighted by multiply-accumulates, such as 3.98")
    add("--weight-bits", type=float, help="maximum average, weighted by parameters, such as 4.0")
    add("--megabytes", type=float, help="maximum size of the file's tensors; its header adds a little")
    add("--operations", type=float, help="maximum bit operations, as a share of all at 8 bits, such as 0.3")
    add(
        "--limit",
        type=parsed(parse_limit),
        action="append",
        default=[],
        metavar="MODULE=LOW-HIGH",
        help="minimum and maximum bits of a module, such as vae.decoder=6-8; repeatable",
    )
    add("--perceptual", default="ms_ssim", metavar="METRIC", help=_PERCEPTUAL)
    add(
        "--sensitivity",
        type=Path,
        metavar="FILE",
        help="read from here if it exists; else measure --images, and write it",
    )
    add("--rank", type=int, default=RestorerQuantConfig().rank, help="rank of the low-rank branch (32)")
    add("--seed", type=int, default=0, help="for rotation signs and samples (0)")
    add("--output", "-o", type=Path, required=True, help="the plan file to write, JSON")
    add("--chart", type=Path, help="draw bits and sensitivities along the network, PNG")
    add_device_argument(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from ..pipelines.allocate import AllocateRequest, allocate

    written = [file_of(arguments.model)]
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
    """What is kept of an earlier measurement, or a new one. Raises UsageError where it is of something else."""
    from ..io.catalogue import shipped_catalogue
    from ..pipelines.allocate import MeasureRequest, check_metric, kept_sensitivity, measure
    from ..pipelines.fetch import load_model

    kept, settings = arguments.sensitivity, RestorerQuantConfig(rank=arguments.rank, seed=arguments.seed)
    if kept and kept.exists():
        faces = face_source(arguments) if arguments.images else None
        sensitivity = kept_sensitivity(kept, arguments.perceptual, settings, faces)
        # A file or a model of the user's may have a name of its own inside.
        if arguments.model != sensitivity.model and arguments.model in shipped_catalogue()["restorers"]:
            raise UsageError(f"{kept} is of {sensitivity.model}, not of {arguments.model}: name another file")
        unknown = "" if sensitivity.settings else ", which does not say with what rank, seed and faces"
        print(f"sensitivities of {sensitivity.model} from {kept}{unknown}: the model is not read")
        return sensitivity
    check_metric(arguments.perceptual)
    faces = face_source(arguments)
    with ProgressBars() as callbacks:
        model = load_model(arguments.model, resolve_device(arguments), callbacks)
        return measure(MeasureRequest(model, faces, settings, arguments.perceptual, kept), callbacks)
