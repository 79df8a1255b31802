"""Metrics by name: built-in ones, else pyiqa's, whose download and licence are announced before one is created.

pyiqa is never needed to restore or quantize; it is imported when one of its metrics is requested.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import QuantFaceError, UsageError, one_line, suggestion
from ..requirements import install_command
from .builtin import BUILTIN_METRICS
from .metric import Metric

FFHQ = "FFHQ"
"""Named instead of a folder: clean-fid's statistics of the faces of this data set."""

_LOG = logging.getLogger("quantface")

# Approximate megabytes that pyiqa and its dependencies download; 0 = none.
_MEGABYTES = {
    **dict.fromkeys(("psnr", "psnry", "ssim", "ssimc", "ms_ssim", "gmsd", "fsim", "vsi", "vif", "nlpd", "piqe"), 0),
    "niqe": 0.01,
    "lpips": 244,
    "lpips-vgg": 553,
    "dists": 553,
    "musiq": 109,
    "maniqa": 900,
    "clipiqa": 256,
    "fid": 96,
}


def full_reference(name: str) -> Metric:
    """A differentiable metric that compares two images, by name: built-in, else pyiqa's.

    Raises UsageError for an unknown name, or a metric that judges a single image.
    """
    metric = BUILTIN_METRICS.get(name) or pyiqa_metric(name)
    if not metric.compares:
        raise UsageError(f"{name} judges a single image: choose a metric that compares two, such as ms_ssim or lpips")
    return metric


@cache
def pyiqa_metric(name: str, parameters: Path | None = None) -> Metric:
    """A pyiqa metric, created once; it may download its weights, which is announced first. Raises UsageError.

    `parameters`: a file of its weights (such as NIQE's), used instead of a download. Gradients flow to the images; the
    metric's own weights are frozen. It runs where pyiqa puts it (on CUDA if available); scores are returned on the
    images' device.
    """
    options = {"pretrained_model_path": str(parameters)} if parameters else {}
    # One score per image and gradients, as a loss needs them.
    model = _create(name, as_loss=True, loss_reduction="none", **options).requires_grad_(False)

    def compute(*images: Tensor) -> Tensor:
        try:
            scores = model(*(x.float().clamp(0, 1) for x in images))
        except (RuntimeError, AssertionError, ValueError, IndexError) as error:
            raise QuantFaceError(f"{name} fails on images {list(images[0].shape)}: {one_line(error)}") from error
        return scores.reshape(len(images[0]), -1).mean(1).to(images[0].device)

    return Metric(name, compute, bool(model.lower_better), model.metric_mode == "FR")


def frechet_distance(pictures: Path, references: Path) -> float:
    """FID between two folders of images, by pyiqa's clean-fid and Inception network.

    `references` may also be `FFHQ`, for clean-fid's statistics of it at 512 pixels. Raises UsageError.
    """
    against: dict[str, Any] = {"fdir2": str(references)}
    if str(references) == FFHQ:
        against = {"dataset_name": FFHQ, "dataset_res": 512, "dataset_split": "trainval70k"}
    model = _fid()
    try:
        return float(model(str(pictures), against.pop("fdir2", None), num_workers=0, verbose=False, **against))
    except Exception as error:  # downloads, folders without images, singular covariances
        raise UsageError(f"fid to {references}: {one_line(error)}") from error


@cache
def _fid() -> Any:
    return _create("fid")


def _create(name: str, **options: Any) -> Any:
    pyiqa = _pyiqa(name)
    if name not in pyiqa.list_models():
        known = f"built-in are {', '.join(BUILTIN_METRICS)}; pyiqa.list_models() lists others"
        hint = suggestion(name, [*BUILTIN_METRICS, *pyiqa.list_models()]) or f": {known}"
        raise UsageError(f"unknown metric {name!r}{hint}")
    if "pretrained_model_path" not in options:
        _announce(name)
    try:
        return pyiqa.create_metric(name, **options)
    except Exception as error:  # failed downloads, missing packages: each raises its own type
        raise UsageError(f"pyiqa cannot create {name}: {one_line(error)}") from error


def _pyiqa(name: str) -> Any:
    try:
        import pyiqa
    except Exception as error:  # missing, or a RuntimeError from a torchvision for another torch
        if name not in _MEGABYTES:
            hint = suggestion(name, [*BUILTIN_METRICS, *_MEGABYTES])
            advice = f"if it is one of pyiqa's: {install_command('pyiqa')}; its licence forbids commercial use"
            raise UsageError(f"{name} is not built in: {advice}{hint}") from None
        raise UsageError(
            f"{name} needs pyiqa ({one_line(error)}): {install_command('pyiqa')}; "
            f"its licence forbids commercial use. Without it: {', '.join(BUILTIN_METRICS)}"
        ) from None
    logging.getLogger("pyiqa").setLevel(logging.WARNING)
    return pyiqa


def _announce(name: str) -> None:
    size = _MEGABYTES.get(name)
    if size == 0:
        return
    from torch.hub import get_dir

    _LOG.warning(
        "%s: from pyiqa (PolyForm Noncommercial; weights CC BY-NC-SA), which downloads %s unless they are in %s",
        name,
        "weights of unknown size" if size is None else f"about {size:g} MB",
        get_dir(),
    )
