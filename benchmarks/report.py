"""What every benchmark prints: the machine it ran on, and a table to paste into README."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

from quantface_core import __version__


def describe_machine() -> str:
    """One line: processor, instruction sets, threads, GPU, versions."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        fields = {name.strip(): value.strip() for name, value in fields.items()}
        wide = [flag for flag in ("avx2", "avx512_vnni", "avx512_bf16", "amx_int8") if flag in fields.get("flags", "")]
        processor = f"{fields.get('model name', processor)} ({', '.join(wide)})"
    if "ONEDNN_MAX_CPU_ISA" in os.environ:
        processor += f" held to {os.environ['ONEDNN_MAX_CPU_ISA']}"
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{processor}, {torch.get_num_threads()} threads{device}; "
        f"Python {platform.python_version()}, torch {torch.__version__}, quantface {__version__}"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str | float]], digits: int = 3) -> str:
    """A Markdown table; numbers get `digits` decimals."""
    cells = [[c if isinstance(c, str) else f"{c:.{digits}f}" for c in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in [list(header), *cells]]
    lines.insert(1, "|" + "---|" * len(header))
    return "\n".join(lines)
