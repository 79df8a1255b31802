"""Choose every layer's bit widths within a budget, by their effect on the output."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..charts import draw_bits, save_chart
from ..errors import UsageError
from ..io.plans import load_sensitivity, save_plan, save_sensitivity
from ..metrics.by_name import full_reference
from ..quant.bit_program import describe_plan, solve_plan
from ..quant.budgets import check_budget
from ..quant.quantize import check_config
from ..quant.sensitivity import settings_of
from ..stages.quantize import calibrate_restorer
from ..stages.sensitivity import measure_sensitivity
from ..types import BitPlan, Budget, RestorerQuantConfig, Sensitivity
from .callbacks import PipelineCallbacks
from .checksums import images_sha256
from .faces import FaceSource, load_faces
from .models import LoadedModel, require_full_precision

_MEASURED = 4  # images that sensitivities are measured on: the ranking of layers hardly changes with more
_SIZES = range(32, 4097)  # pixels; of faces, in a file that is not trusted


@dataclass(frozen=True, eq=False)
class MeasureRequest:
    """The model whose layers to measure, and on which faces."""

    model: LoadedModel  # full precision; its layers are swapped while measuring, then restored
    faces: FaceSource | Tensor  # degraded aligned crops; or [N, 3, S, S] in [-1, 1] at the model's size
    config: RestorerQuantConfig = field(default_factory=RestorerQuantConfig)  # of the model to be made
    perceptual: str = "ms_ssim"  # full-reference metric of a layer's damage, used beside the squared error
    output: Path | None = None  # JSON file for the sensitivities; None = none


@dataclass(frozen=True)
class AllocateRequest:
    """The sensitivities of a model's layers, and the budget of a plan."""

    sensitivity: Sensitivity
    budget: Budget
    output: Path | None = None  # JSON file for the plan; None = none
    chart: Path | None = None  # PNG file for its chart; None = none


@dataclass(frozen=True, eq=False)
class AllocateResult:
    """A plan within its budget."""

    plan: BitPlan
    summary: str  # its average bits, size and expected error, in one line
    chart: NDArray[np.uint8]  # [H, W, 3]: bits and sensitivities along the network


def check_metric(perceptual: str) -> None:
    """Raise UsageError for a metric that is not available, before minutes of measuring."""
    full_reference(perceptual)


def measure(request: MeasureRequest, callbacks: PipelineCallbacks | None = None) -> Sensitivity:
    """Measure what each layer's bit widths do to the output: calibrated on all faces, measured on the first few.

    Takes minutes; the result serves any budget. Raises QuantFaceError.
    """
    callbacks, restorer = callbacks or PipelineCallbacks(), request.model.restorer
    require_full_precision(request.model)
    check_config(request.config)
    check_metric(request.perceptual)
    images = load_faces(request.faces, restorer.image_size, callbacks)
    with callbacks.cancellable(restorer):
        statistics = calibrate_restorer(restorer, images, callbacks.stage("calibrate", "image"), request.config)
        sensitivity = measure_sensitivity(
            restorer,
            statistics,
            images[:_MEASURED],
            request.config,
            request.perceptual,
            callbacks.stage("measure", "per mille"),
        )
    faces = {"image_size": restorer.image_size, "calibration_sha256": images_sha256(images)}
    sensitivity = replace(sensitivity, settings={**sensitivity.settings, **faces})
    if request.output:
        save_sensitivity(sensitivity, request.output)
    return sensitivity


def kept_sensitivity(
    path: Path, perceptual: str, config: RestorerQuantConfig, faces: FaceSource | None = None
) -> Sensitivity:
    """Load what `measure` wrote to a file.

    Raises ModelError; UsageError when it records another metric, another config, or, where `faces` are given, others.
    """
    sensitivity = load_sensitivity(path)
    known, asked = sensitivity.settings, settings_of(config)
    other = {} if sensitivity.perceptual == perceptual else {"metric": (sensitivity.perceptual, perceptual)}
    other |= {name: (known[name], value) for name, value in asked.items() if known.get(name, value) != value}
    if other:
        differing = ", ".join(f"{name} {had}, not {wanted}" for name, (had, wanted) in other.items())
        raise UsageError(f"{path} was measured with {differing}: use the same, or name another file")
    size, checksum = known.get("image_size", 0), known.get("calibration_sha256")
    if faces and size in _SIZES and images_sha256(load_faces(faces, size)) != checksum:
        raise UsageError(f"{path} was measured on other faces: use the same or none, or name another file")
    return sensitivity


def allocate(request: AllocateRequest) -> AllocateResult:
    """Find the plan with the least damage within the budget. Raises UsageError when there is none, WriteError."""
    check_budget(request.budget)
    plan = solve_plan(request.sensitivity, request.budget)
    chart = draw_bits(plan, request.sensitivity)
    if request.output:
        save_plan(plan, request.output)
    if request.chart:
        save_chart(chart, request.chart)
    free = request.budget.activation_bits is None and request.budget.operations is None
    summary = describe_plan(plan, request.sensitivity) + ("; activations were not limited" if free else "")
    return AllocateResult(plan, summary, chart)
