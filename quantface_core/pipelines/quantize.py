"""Quantize a full-precision restorer: calibrate, smooth, quantize, save."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from torch import Tensor

from .. import __version__
from ..stages.quantize import calibrate_restorer, images_at_once, quantize_restorer
from ..types import BitPlan, LayerReport, QuantizeSettings
from .callbacks import PipelineCallbacks
from .faces import FaceSource, load_faces
from .models import LoadedModel, require_full_precision, save_model


@dataclass(frozen=True, eq=False)
class QuantizeRequest:
    """The model to quantize, its calibration faces, and the settings."""

    model: LoadedModel  # full precision; quantized in place
    faces: FaceSource | Tensor  # calibration: degraded aligned faces, or [N, 3, S, S] in [-1, 1]
    settings: QuantizeSettings = field(default_factory=QuantizeSettings)
    plan: BitPlan | None = None  # bit widths by layer, which override the settings'
    output: Path | None = None  # the file to write; None = none


@dataclass(frozen=True, eq=False)
class QuantizeResult:
    """The quantized model, and a report of each layer."""

    model: LoadedModel  # its notes say how it was made
    reports: tuple[LayerReport, ...]


def quantize(request: QuantizeRequest, callbacks: PipelineCallbacks | None = None) -> QuantizeResult:
    """Calibrate and quantize a restorer. Raises QuantFaceError.

    Interrupted or refused, it stays as it was; where only its file cannot be written, it is quantized.
    """
    callbacks, restorer = callbacks or PipelineCallbacks(), request.model.restorer
    require_full_precision(request.model)
    images = load_faces(request.faces, restorer.image_size, callbacks)
    checksum = images_sha256(images)
    # Every part by its name, for the file's notes: a later version may have others.
    settings = replace(request.settings, parts=request.settings.parts or restorer.parts)
    with callbacks.cancellable(restorer):
        statistics = calibrate_restorer(restorer, images, callbacks.stage("calibrate", "image"), settings)
        reports = quantize_restorer(
            restorer,
            statistics,
            images_at_once(restorer, images),
            settings,
            callbacks.stage("quantize", "layer"),
            request.plan,
        )
    licence = {name: text for name, text in request.model.notes.items() if name == "licence"}
    notes = {
        **licence,
        "quantface": __version__,
        "settings": json.dumps(asdict(settings)),
        "calibration_sha256": checksum,
        "reports": json.dumps([asdict(report) for report in reports]),
    }
    model = replace(request.model, notes=notes)
    if request.output:
        save_model(model, request.output)
    return QuantizeResult(model, tuple(reports))


def images_sha256(images: Tensor) -> str:
    """SHA-256 of a float tensor's bytes [N, 3, S, S], which identifies calibration images in a file's notes."""
    return hashlib.sha256(images.detach().cpu().numpy().tobytes()).hexdigest()
