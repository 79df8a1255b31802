"""The report on a run of `quantface restore`, which `--json` asks for."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..io.atomic import write_text
from ..io.checksum import known_sha256
from ..options import RestoreOptions

if TYPE_CHECKING:
    from ..pipelines.models import Execution


@contextmanager
def run_report(arguments: argparse.Namespace, options: RestoreOptions) -> Iterator[dict[str, Any]]:
    """Context manager: the report to complete, written when the block ends, whatever ends it, an interrupt too.

    `finished` in it says whether the block came to its end. Raises WriteError.
    """
    report: dict[str, Any] = {"quantface": __version__, "model": arguments.model, "options": asdict(options)}
    finished = False
    try:
        yield report
        finished = True
    finally:
        if arguments.json:
            write_text(arguments.json, json.dumps(report | {"finished": finished}, indent=2) + "\n")


def describe_execution(execution: Execution) -> dict[str, Any]:
    """A report's entries on what computed: the model's checksum, device, backend, precision, memory mode, threads.

    `backend` None says that the model has no low-bit layers. Raises ModelError when the model cannot be read.
    """
    return {
        "model_sha256": known_sha256(execution.model),
        "device": execution.device.type,
        "backend": execution.backend or None,
        "precision": execution.precision,
        "low_memory": execution.low_memory,
        "threads": execution.threads,
        "upscaler_sha256": known_sha256(execution.upscaler) if execution.upscaler else None,
    }
