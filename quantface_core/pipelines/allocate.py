"""Choose every layer's bits within a budget, by what they do to the picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..charts import draw_bits, save_chart
from ..errors import UsageError
from ..io.plans import load_sensitivity, save_plan, save_sensitivity
from ..metrics.by_name import full_reference
from ..quant.bit_program import check_budget, describe, solve
from ..stages.quantize import calibrate_restorer
from ..stages.sensitivity import measure_sensitivity
from ..types import BitPlan, Budget, QuantizeSettings, Sensitivity
from .callbacks import PipelineCallbacks
from .faces import FaceSource, load_faces
from .models import LoadedModel, require_full_precision

_MEASURED = 4  # images the sensitivities are measured on: the ranking of layers hardly moves with more


@dataclass(frozen=True, eq=False)
class MeasureRequest:
    """Whose layers to measure, and on which faces."""

    model: LoadedModel  # of full precision; layers are exchanged while it is measured, and it ends as it was
    faces: FaceSource | Tensor  # degraded, aligned; or [N, 3, S, S] in [-1, 1] at the model's size
    settings: QuantizeSettings = field(default_factory=QuantizeSettings)  # of the model that is to be made
    perceptual: str = "ms_ssim"  # the full-reference metric that weighs a layer's damage beside the squared error
    output: Path | None = None  # where to keep the sensitivities, JSON; None = nowhere


@dataclass(frozen=True)
class AllocateRequest:
    """What a plan may spend."""

    sensitivity: Sensitivity
    budget: Budget
    output: Path | None = None  # where to write the plan, JSON; None = nowhere
    chart: Path | None = None  # where to draw it, PNG; None = nowhere


@dataclass(frozen=True, eq=False)
class AllocateResult:
    """A plan that keeps its budget."""

    plan: BitPlan
    summary: str  # what it spends and what that costs, in a line
    chart: NDArray[np.uint8]  # [H, W, 3]: bits and sensitivities along the network


def check_metric(perceptual: str) -> None:
    """Raise UsageError for a metric that cannot be had, before the minutes of measuring."""
    full_reference(perceptual)


def measure(request: MeasureRequest, callbacks: PipelineCallbacks | None = None) -> Sensitivity:
    """What each layer's widths do to the picture: calibrated on all faces, measured on the first few.

    Takes minutes, and serves any budget. Raises QuantFaceError.
    """
    callbacks, restorer = callbacks or PipelineCallbacks(), request.model.restorer
    require_full_precision(request.model)
    check_metric(request.perceptual)
    images = load_faces(request.faces, restorer.image_size, callbacks)
    with callbacks.cancellable(restorer):
        statistics = calibrate_restorer(restorer, images, callbacks.stage("calibrate", "image"), request.settings)
        sensitivity = measure_sensitivity(
            restorer,
            statistics,
            images[:_MEASURED],
            request.settings,
            request.perceptual,
            callbacks.stage("measure", "per mille"),
        )
    if request.output:
        save_sensitivity(sensitivity, request.output)
    return sensitivity


def kept_sensitivity(path: Path, perceptual: str) -> Sensitivity:
    """What `measure` has kept in a file. Raises ModelError; UsageError when another metric weighed the damage."""
    sensitivity = load_sensitivity(path)
    if sensitivity.perceptual != perceptual:
        raise UsageError(f"{path} was measured with {sensitivity.perceptual}: ask for that, or name another file")
    return sensitivity


def allocate(request: AllocateRequest) -> AllocateResult:
    """The plan of least damage within the budget. Raises UsageError when there is none."""
    check_budget(request.budget)
    plan = solve(request.sensitivity, request.budget)
    chart = draw_bits(plan, request.sensitivity)
    if request.output:
        save_plan(plan, request.output)
    if request.chart:
        save_chart(chart, request.chart)
    free = request.budget.activation_bits is None and request.budget.operations is None
    summary = describe(plan, request.sensitivity) + ("; activations were not limited" if free else "")
    return AllocateResult(plan, summary, chart)
