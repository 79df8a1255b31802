"""Metrics by name: ours, else pyiqa's, whose download and licence are announced before it makes one.

pyiqa is never needed to restore or quantize; it is imported when a metric of its is asked for.
"""

from __future__ import annotations

import difflib
import logging
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import QuantFaceError, UsageError
from .builtin import BUILTIN_METRICS, LOWER_BETTER, Metric

_LOG = logging.getLogger("quantface")

# Megabytes that pyiqa and what it builds on download, about; 0 = nothing.
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


class PyiqaMetric:
    """One metric of pyiqa: [B, 3, H, W] in 0 to 1, and references if it compares two, to [B] scores.

    Gradients flow to the pictures; its own weights are frozen. It runs where pyiqa puts it (CUDA where
    there is one); scores come back to the pictures' device.
    """

    def __init__(self, name: str, model: Any) -> None:
        self.name, self._model = name, model.requires_grad_(False)
        self.lower_better = bool(model.lower_better)
        self.compares = model.metric_mode == "FR"

    def __call__(self, pictures: Tensor, references: Tensor | None = None) -> Tensor:
        """Raises QuantFaceError when the metric cannot judge such pictures."""
        given = [x.float().clamp(0, 1) for x in (pictures, references) if x is not None]
        try:
            scores = self._model(*given)
        except (RuntimeError, AssertionError, ValueError, IndexError) as error:
            raise QuantFaceError(f"{self.name} fails on pictures {list(pictures.shape)}: {_reason(error)}") from error
        return scores.reshape(len(pictures), -1).mean(1).to(pictures.device)


def full_reference(name: str) -> tuple[Metric, bool]:
    """A metric of two pictures by name, and whether lower is better: ours, else pyiqa's.

    It is differentiable. Raises UsageError when there is none of that name, or it judges one picture alone.
    """
    if name in BUILTIN_METRICS:
        return BUILTIN_METRICS[name], name in LOWER_BETTER
    metric = pyiqa_metric(name)
    if not metric.compares:
        raise UsageError(f"{name} judges one picture alone: choose one that compares two, such as ms_ssim or lpips")
    return metric, metric.lower_better


@cache
def pyiqa_metric(name: str, parameters: Path | None = None) -> PyiqaMetric:
    """A metric of pyiqa, made once; it may download its weights, which is announced. Raises UsageError.

    `parameters`: a file of its weights, used instead of a download (NIQE's, say).
    """
    options = {"pretrained_model_path": str(parameters)} if parameters else {}
    # Reduced to nothing but one score a picture, and with gradients, as a loss needs it.
    return PyiqaMetric(name, _create(name, as_loss=True, loss_reduction="none", **options))


def frechet_distance(pictures: Path, references: Path) -> float:
    """FID between two folders of pictures, through pyiqa's clean-fid and Inception network.

    `references` may also be FFHQ, for clean-fid's statistics of it at 512 pixels. Raises UsageError.
    """
    against: dict[str, Any] = {"fdir2": str(references)}
    if str(references) == "FFHQ":
        against = {"dataset_name": "FFHQ", "dataset_res": 512, "dataset_split": "trainval70k"}
    model = _fid()
    try:
        return float(model(str(pictures), against.pop("fdir2", None), num_workers=0, verbose=False, **against))
    except Exception as error:  # downloads, folders without pictures, singular covariances
        raise UsageError(f"fid to {references}: {_reason(error)}") from error


@cache
def _fid() -> Any:
    return _create("fid")


def _create(name: str, **options: Any) -> Any:
    pyiqa = _pyiqa(name)
    if name not in pyiqa.list_models():
        near = difflib.get_close_matches(name, [*BUILTIN_METRICS, *pyiqa.list_models()], n=1)
        hint = (
            f"; did you mean {near[0]}?"
            if near
            else f": ours are {', '.join(BUILTIN_METRICS)}, see pyiqa.list_models()"
        )
        raise UsageError(f"unknown metric {name!r}{hint}")
    if "pretrained_model_path" not in options:
        _announce(name)
    try:
        return pyiqa.create_metric(name, **options)
    except Exception as error:  # downloads that fail, missing packages: each its own kind
        raise UsageError(f"pyiqa cannot make {name}: {_reason(error)}") from error


def _pyiqa(name: str) -> Any:
    try:
        import pyiqa
    except Exception as error:  # missing, or torchvision beside another torch: that is a RuntimeError
        raise UsageError(
            f"{name} needs pyiqa ({_reason(error)}): pip install pyiqa; "
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


def _reason(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
