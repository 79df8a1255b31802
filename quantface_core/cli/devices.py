"""With which model, where and how a command computes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..types import DEVICES

if TYPE_CHECKING:
    import torch

    from ..pipelines.callbacks import PipelineCallbacks
    from ..pipelines.models import Execution


MODEL_HELP = "a known model's name, or a file; GFPGAN's, RestoreFormer's and CodeFormer's too"


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--device`, which `resolve_device` reads."""
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where to compute (auto)")


def resolve_device(arguments: argparse.Namespace) -> torch.device:
    """The torch device that `--device` names; auto takes CUDA (or ROCm), then Intel's XPU, Apple's MPS and the CPU.

    Raises UsageError for a device that is not on this machine.
    """
    from ..runtime.device import choose_device

    return choose_device(arguments.device)


def execution_of(arguments: argparse.Namespace, device: torch.device, callbacks: PipelineCallbacks) -> Execution:
    """The model that `--model` names, fetched or built on `device` if it is missing, and how the options execute it.

    Raises as `model_path`, and UsageError for a backend that nobody knows, before anything is fetched.
    """
    from ..kernels.dispatch import check_backend
    from ..pipelines.fetch import model_path
    from ..pipelines.models import Execution
    from ..runtime.threads import compute_by

    if arguments.backend != "auto":
        check_backend(arguments.backend)
    if arguments.threads:
        compute_by(arguments.threads)  # a missing model is built by them too
    return Execution(
        model=model_path(arguments.model, callbacks, device),
        device=device,
        backend=arguments.backend,
        precision=arguments.precision,
        low_memory=arguments.low_memory,
        threads=arguments.threads,
        upscaler=getattr(arguments, "upscaler", None),
    )
