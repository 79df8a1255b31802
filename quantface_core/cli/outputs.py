"""Where a command writes a model."""

from __future__ import annotations

from pathlib import Path

from ..errors import UsageError
from ..io.atomic import check_writable


def check_model_output(output: Path) -> None:
    """Raise UsageError where no model's file can be written, before the work that it is to hold."""
    if output.suffix != ".safetensors":
        raise UsageError(f"--output {output}: name a .safetensors file")
    check_writable(output, "--output")


def size_of(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"
