"""`quantface detect`: find the faces in photos, and write each photo with its faces numbered.

The numbers are the positions that `restore --faces` takes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..options import FACE_ORDERS, RestoreOptions, check_options
from .message import one_line, tell
from .progress import ProgressBars


def add_parser(commands: Any) -> None:
    defaults = RestoreOptions()
    parser = commands.add_parser("detect", help="find and number the faces in photos", description=__doc__)
    add = parser.add_argument
    add("photos", nargs="+", metavar="PHOTO", help="files, folders or patterns")
    add("--recursive", "-r", action="store_true", help="include subfolders; drawings keep the folder structure")
    add("--output", "-o", type=Path, default=Path("faces"), help="folder, or a .png file for one photo (faces)")
    add("--order", choices=FACE_ORDERS, default=defaults.order, help="how positions count faces")
    add("--min-size", type=float, default=defaults.min_size, metavar="PIXELS", help="skip smaller faces (0)")
    add("--min-confidence", type=float, default=defaults.min_confidence, help="skip less certain faces (0.7)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit status: 1 where a photo failed. Raises UsageError."""
    from ..pipelines.detect import described, detect
    from ..pipelines.jobs import find_photos, plan_jobs

    options = RestoreOptions(
        order=arguments.order, min_size=arguments.min_size, min_confidence=arguments.min_confidence
    )
    check_options(options)
    found = find_photos(arguments.photos, arguments.recursive, arguments.output)
    jobs, failed = plan_jobs(found, arguments.output, False, (".png",)), 0
    with ProgressBars() as callbacks:
        for photo in detect(jobs, options, callbacks):
            if photo.error:
                callbacks.notify(f"error: {photo.error}")
                failed = 1
            for line in described(photo):
                tqdm.write(one_line(line), file=sys.stdout)
    if summary := found.summary():
        tell(f"quantface: {summary}")
    return failed
