"""`quantface calibrate`: turn a full-precision restorer into a 3- to 8-bit integer one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..types import BRANCH_BITS, BRANCHES, ROUNDINGS, Bits, RestorerQuantConfig
from .devices import MODEL_HELP, add_device_argument, resolve_device
from .faces import add_faces, face_source
from .outputs import check_model_output, size_of
from .parsed import parsed
from .progress import ProgressBars


def add_parser(commands: Any) -> None:
    defaults = RestorerQuantConfig()
    parser = commands.add_parser("calibrate", help="quantize a restorer", description=__doc__)
    add = parser.add_argument
    add("model", help=f"{MODEL_HELP}; full precision")
    add_faces(parser, count=16)
    add(
        "--bits",
        type=parsed(Bits.parse),
        default=Bits(4, 4),
        metavar="wXaY",
        help="bits of weights and activations (w4a4)",
    )
    add("--plan", type=Path, help="each layer's bits, from `quantface allocate`; overrides --bits")
    add("--output", "-o", type=Path, required=True, help="the .safetensors file to write")
    add("--block", type=int, default=defaults.block, help="largest rotation block; 1 = no rotation (64)")
    add("--rank", type=int, default=defaults.rank, help=f"rank of the low-rank branch; 0 = none ({defaults.rank})")
    add("--branch-bits", type=int, choices=BRANCH_BITS, default=defaults.branch_bits, help="bits of its values (8)")
    add("--branch", choices=BRANCHES, default=defaults.branch, help=f"what the branch keeps ({defaults.branch})")
    add("--rounding", choices=ROUNDINGS, default=defaults.rounding, help=f"rounding of weights ({defaults.rounding})")
    add("--seed", type=int, default=defaults.seed, help="for rotation signs and calibration crops (0)")
    add("--unet-only", action="store_true", help="leave autoencoder and embedder in full precision")
    add_device_argument(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from ..io.plans import load_plan
    from ..pipelines.fetch import load_model
    from ..pipelines.quantize import QuantizeRequest, quantize

    check_model_output(arguments.output, arguments.model)
    faces = face_source(arguments)
    settings = RestorerQuantConfig(
        arguments.bits.weight,
        arguments.bits.activation,
        block=arguments.block,
        rank=arguments.rank,
        branch_bits=arguments.branch_bits,
        seed=arguments.seed,
        rounding=arguments.rounding,
        branch=arguments.branch,
        parts=("unet",) if arguments.unet_only else (),
    )
    plan = load_plan(arguments.plan) if arguments.plan else None
    with ProgressBars() as callbacks:
        model = load_model(arguments.model, resolve_device(arguments), callbacks)
        result = quantize(QuantizeRequest(model, faces, settings, plan, arguments.output), callbacks)
    print(f"{arguments.output}: {len(result.reports)} layers, {size_of(arguments.output)}")
    return 0
