"""`quantface demo`: restore the bundled photo, offline, and write before and after images.

Its face positions are bundled too, so that not even the detector has to be loaded.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from ..bundled import DEMO_PHOTO, demo_faces
from ..options import RestoreOptions
from ..types import DEFAULT_RESTORER
from .lean_diffusers import import_lean_diffusers


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("demo", help="restore a bundled photo, offline", description=__doc__.splitlines()[0])
    parser.add_argument("--output", "-o", type=Path, default=Path("demo"), help="folder for the images (demo)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.own_process:
        import_lean_diffusers()
    from ..io.checkpoint import load_restorer
    from ..io.models import restorer_path
    from ..pipelines.jobs import Job
    from ..pipelines.restore_file import FileRequest, restore_file

    faces = demo_faces()
    began = time.perf_counter()
    restorer = load_restorer(restorer_path(DEFAULT_RESTORER), dtype=None)
    loaded = time.perf_counter()
    job = Job(DEMO_PHOTO, arguments.output / "restored.png", arguments.output / "compare.png")
    restore_file(FileRequest(job, restorer, lambda _: faces, RestoreOptions()))
    print(f"loaded in {loaded - began:.1f} s, restored in {time.perf_counter() - loaded:.1f} s")
    print(f"see {job.target} and {job.compare}")
    return 0
