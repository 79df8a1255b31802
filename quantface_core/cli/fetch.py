"""`quantface fetch`: get models by name: from the Hub, built from their authors' files, or by a shipped recipe."""

from __future__ import annotations

import argparse
from typing import Any

from .progress import ProgressBars


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("fetch", help="download models by name", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", help="a name listed by `quantface models`")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from ..pipelines.fetch import model_path

    with ProgressBars() as callbacks:
        for name in arguments.names:
            print(model_path(name, callbacks))
    return 0
