"""`quantface evaluate`: restore degraded faces by models and score them.

Prints a table with one row per model, and writes it, all scores as JSON and
the restored images. A metric that is not available here is named with the
reason.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from .devices import MODEL_HELP, add_device_argument, resolve_device
from .progress import ProgressBars


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="restore and score a folder of faces",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("models", nargs="+", metavar="MODEL", help=f"{MODEL_HELP}; one row each")
    add("--lq", type=Path, required=True, help="folder of aligned, degraded faces")
    add("--gt", type=Path, help="folder of their originals, with the same names (suffixes may differ)")
    add(
        "--degrade",
        action="store_true",
        help="the faces in --lq are clean: degrade them with fixed seeds and use them as originals",
    )
    add("--reference", metavar="MODEL", help="the full-precision model: adds a row for it, and PSNR to its images")
    add(
        "--metrics",
        nargs="+",
        default=["all"],
        metavar="NAME",
        help="all (psnr psnr_full ssim ms_ssim and the paper's: clipiqa dists lpips maniqa musiq niqe deg lmd fid), or "
        "names, including pyiqa's",
    )
    add("--fid-reference", type=Path, action="append", default=[], metavar="DIR", help="images for FID, or FFHQ")
    add("--count", type=int, help="at most this many faces")
    add_device_argument(parser)
    add("--output", "-o", type=Path, required=True, help="folder for evaluation.json, table.md and the images")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from ..pipelines.evaluate import EvaluateRequest, check_evaluate, evaluate
    from ..pipelines.fetch import model_path

    request = EvaluateRequest(
        models={},
        lq=arguments.lq,
        output=arguments.output,
        device=resolve_device(arguments),
        gt=arguments.gt,
        degrade=arguments.degrade,
        reference=arguments.reference,
        metrics=tuple(arguments.metrics),
        fid_reference=tuple(arguments.fid_reference),
        count=arguments.count,
    )
    check_evaluate(request)  # before a model is fetched
    names = dict.fromkeys(([arguments.reference] if arguments.reference else []) + arguments.models)
    with ProgressBars() as callbacks:
        models = {name: model_path(name, callbacks, request.device) for name in names}
        result = evaluate(replace(request, models=models), callbacks)
    print(result.table)
    return 0
