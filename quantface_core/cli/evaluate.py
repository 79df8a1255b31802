"""`quantface evaluate`: restore a folder of degraded faces with one or more models and judge the results.

Prints a table with a row a model, and writes it, all numbers as JSON and the restored pictures. A metric
that cannot be had here is named with the reason.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .devices import add_device
from .pairs import find_pairs
from .scorecard import Scorecard, write_text

if TYPE_CHECKING:
    from ..stages.evaluate import Tools

_OWN = ("psnr_full", "psnr", "ssim", "ms_ssim")
_NIQE_FILES = ("niqe_modelparameters.mat", "niqe_modelparameters_from_basicsr.mat")
_NAMED = 5  # files in a message


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="restore and judge a folder of faces",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("models", nargs="+", metavar="MODEL", help="known models' names or .safetensors files, a row each")
    add("--lq", type=Path, required=True, help="folder of aligned, degraded faces")
    add("--gt", type=Path, help="folder of their originals, of the same names (suffixes may differ)")
    add("--degrade", action="store_true", help="the faces of --lq are clean: degrade them with seeds, and hold against")
    add("--reference", metavar="MODEL", help="the full-precision model: a row of its own, and PSNR to its pictures")
    add(
        "--metrics",
        nargs="+",
        default=["all"],
        metavar="NAME",
        help="all (psnr ssim ms_ssim and the paper's: clipiqa dists lpips maniqa musiq niqe deg lmd fid), or names, "
        "those of pyiqa too",
    )
    add("--fid-reference", type=Path, action="append", default=[], metavar="DIR", help="pictures for FID, or FFHQ")
    add("--count", type=int, help="at most this many faces")
    add_device(parser)
    add("--output", "-o", type=Path, required=True, help="folder for evaluation.json, table.md and the pictures")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from ..io.models import restorer_path

    pairs, unpaired = find_pairs(arguments.lq, arguments.gt, arguments.degrade, arguments.count)
    if unpaired:
        shown = ", ".join(unpaired[:_NAMED]) + (" ..." if len(unpaired) > _NAMED else "")
        print(f"warning: {len(unpaired)} files have no partner and are left out: {shown}", file=sys.stderr)
    names = [name for given in arguments.metrics for name in (_everything() if given == "all" else (given,))]
    chosen = ([arguments.reference] if arguments.reference else []) + arguments.models
    models = {_row_name(name, chosen): restorer_path(name) for name in dict.fromkeys(chosen)}
    tools = _tools(arguments)
    card = Scorecard(arguments, pairs, names, tools)
    for row, path in models.items():
        card.add(row, path)
    write_text(arguments.output / "evaluation.json", json.dumps({**card.report(), "unpaired": unpaired}, indent=2))
    write_text(arguments.output / "table.md", card.table())
    print(card.table())
    return 0


def _everything() -> tuple[str, ...]:
    from ..stages.evaluate import PAPER

    return (*_OWN, *PAPER)


def _row_name(name: str, chosen: Sequence[str]) -> str:
    """A model's short name; its path where two would be the same."""
    short = Path(name).name.removesuffix(".safetensors")
    return short if sum(Path(n).name.removesuffix(".safetensors") == short for n in set(chosen)) == 1 else name


def _tools(arguments: argparse.Namespace) -> Tools:
    from ..faces.detect import FaceDetector
    from ..faces.recognize import RECOGNIZER_FILE, RECOGNIZER_REPO, FaceRecognizer
    from ..io.models import detector_path, models_folder
    from ..stages.evaluate import Tools

    niqe = next((models_folder() / name for name in _NIQE_FILES if (models_folder() / name).is_file()), None)
    recognizer = models_folder() / RECOGNIZER_FILE
    reasons = {}
    if not recognizer.is_file():
        advice = f"download {RECOGNIZER_FILE} from huggingface.co/{RECOGNIZER_REPO} into {models_folder()}"
        reasons["deg"] = f"needs a face recogniser: {advice}"
    if not arguments.fid_reference:
        reasons["fid"] = "needs pictures to compare with: --fid-reference DIR"
    return Tools(
        originals=arguments.degrade or arguments.gt is not None,
        references=arguments.reference is not None,
        detector=FaceDetector(detector_path()),
        recognizer=FaceRecognizer(recognizer) if recognizer.is_file() else None,
        parameters={"niqe": niqe} if niqe else {},
        reasons=reasons,
    )
