"""Where a command computes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_NAMES = ["auto", "cpu", "cuda", "mps"]


def add_device(parser: argparse.ArgumentParser) -> None:
    """The option that `chosen_device` reads."""
    parser.add_argument("--device", choices=_NAMES, default="auto", help="where to compute (auto)")


def chosen_device(arguments: argparse.Namespace) -> torch.device:
    """Raises UsageError for a device that is not here."""
    from ..runtime.device import choose_device

    return choose_device(arguments.device)
