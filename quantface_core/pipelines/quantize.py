"""Quantize a full-precision restorer: calibrate, balance, quantize, save."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from torch import Tensor

from .. import __version__
from ..quant.quantize import check_config
from ..stages.quantize import calibrate_restorer, images_at_once, quantize_restorer
from ..types import BitPlan, LayerReport, RestorerQuantConfig
from .callbacks import PipelineCallbacks
from .checksums import images_sha256, source_sha256
from .faces import FaceSource, load_faces
from .models import LoadedModel, require_full_precision, save_model


@dataclass(frozen=True, eq=False)
class QuantizeRequest:
    """The model to quantize, its calibration images, and the config."""

    model: LoadedModel  # full precision; quantized in place
    faces: FaceSource | Tensor  # calibration images: degraded aligned crops, or [N, 3, S, S] in [-1, 1]
    config: RestorerQuantConfig = field(default_factory=RestorerQuantConfig)
    plan: BitPlan | None = None  # bit widths by layer, which override the config's
    output: Path | None = None  # the file to write; None = none


@dataclass(frozen=True, eq=False)
class QuantizeResult:
    """The quantized model, and a report of each layer."""

    model: LoadedModel  # its notes say how it was made
    reports: tuple[LayerReport, ...]


def quantize(request: QuantizeRequest, callbacks: PipelineCallbacks | None = None) -> QuantizeResult:
    """Calibrate and quantize a restorer in place. Raises QuantFaceError.

    If interrupted or rejected it is left unchanged; if only its file cannot be written, it is quantized.
    """
    callbacks, restorer = callbacks or PipelineCallbacks(), request.model.restorer
    require_full_precision(request.model)
    check_config(request.config)
    images = load_faces(request.faces, restorer.image_size, callbacks)
    checksums = {"source_sha256": source_sha256(restorer), "calibration_sha256": images_sha256(images)}
    # Every part by name, for the file's notes: a later version may have others.
    config = replace(request.config, parts=request.config.parts or restorer.parts)
    with callbacks.cancellable(restorer):
        statistics = calibrate_restorer(restorer, images, callbacks.stage("calibrate", "image"), config)
        reports = quantize_restorer(
            restorer,
            statistics,
            images_at_once(restorer, images),
            config,
            callbacks.stage("quantize", "layer"),
            request.plan,
        )
    licence = {name: text for name, text in request.model.notes.items() if name == "licence"}
    notes = {
        **licence,
        "quantface": __version__,
        "settings": json.dumps(asdict(config)),
        **checksums,
        "reports": json.dumps([asdict(report) for report in reports]),
    }
    model = replace(request.model, notes=notes)
    if request.output:
        save_model(model, request.output)
    return QuantizeResult(model, tuple(reports))
