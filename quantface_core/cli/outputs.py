"""What a command may write, checked before the work."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import UsageError
from ..io.catalogue import models_folder
from ..io.file_identity import file_identity
from ..io.output_checks import check_writable


def check_model_output(output: Path, *models: str) -> None:
    """Raise UsageError when no model can be written to `output`, or it is one of the `models` that are read."""
    if output.suffix != ".safetensors":
        raise UsageError(f"--output {output}: name a .safetensors file")
    check_report(output, map(file_of, models), "--output")


def file_of(model: str) -> Path:
    """The file of a model given by name or by path, there or not; a bundled one's would be in the models folder."""
    given = Path(os.path.expanduser(model))
    return given if given.is_file() else models_folder() / f"{model.removesuffix('.safetensors')}.safetensors"


def check_report(report: Path | None, spared: Iterable[Path | None], option: str = "--json") -> None:
    """Raise UsageError when a report cannot be written, or would overwrite one of the files in `spared`."""
    if report is None:
        return
    check_writable(report, option)
    if file_identity(report) in {file_identity(path) for path in spared if path is not None}:
        raise UsageError(f"{option} {report} would overwrite a file that is read or written here: choose another name")


def size_of(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"
