"""`quantface publish`: upload a model, with its card, to the Hugging Face Hub.

Into a repository of yours: log in first (`hf auth login`, or HF_TOKEN).
Nothing is uploaded until its licence is clear: the card states the file's
licence, and a model made from files without one needs your confirmation that
you may share it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "publish",
        help="upload a model to the Hub",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("file", type=Path, help="the .safetensors file")
    add("--repo", required=True, metavar="USER/NAME", help="created if it does not exist")
    add("--licence", help="the licence you give it, such as apache-2.0; none = the one noted in the file")
    add("--may-share", action="store_true", help="I have the right to share what this model was made from")
    add("--evaluation", type=Path, metavar="DIR", help="`quantface evaluate`'s output: its table goes on the card")
    add("--private", action="store_true", help="make the repository private")
    add("--keep-card", action="store_true", help="leave the repository's README.md as it is, instead of replacing it")
    add("--dry-run", action="store_true", help="print the model card, upload nothing")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from ..io.publish import card, publish

    text = card(arguments.file, arguments.repo, arguments.licence, arguments.may_share, arguments.evaluation)
    if arguments.dry_run:
        print(text)
    else:
        print(publish(arguments.file, arguments.repo, None if arguments.keep_card else text, arguments.private))
    return 0
