"""Where a command computes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_DEVICE_CHOICES = ["auto", "cpu", "cuda", "mps"]


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--device`, which `resolve_device` reads."""
    parser.add_argument("--device", choices=_DEVICE_CHOICES, default="auto", help="where to compute (auto)")


def resolve_device(arguments: argparse.Namespace) -> torch.device:
    """The torch device that `--device` names; auto takes CUDA (or ROCm), then Apple's MPS, then the CPU.

    Raises UsageError for a device that is not on this machine.
    """
    from ..runtime.device import choose_device

    return choose_device(arguments.device)
