"""Allocate Bits."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from comfy_api.latest import io

from . import host, previews
from .faces import FacesNode, face_inputs, face_source
from .fr_model import FRModel
from .host import FRModelSocket, FRPlanSocket, advanced
from .memory import memory_given_back
from .pictures import from_chart

if TYPE_CHECKING:
    from ..quantface_core.pipelines.faces import FaceSource
    from ..quantface_core.types import RestorerQuantConfig, Sensitivity

METRICS = ["ms_ssim", "ssim", "psnr", "lpips", "dists"]
# The last measurement of each model and what it was made from: a new budget needs no new one.
_last: WeakKeyDictionary[FRModel, tuple[str, Sensitivity]] = WeakKeyDictionary()


class AllocateBits(FacesNode):
    """Measures how a model's output depends on each layer's bits, and spends a budget."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="QuantFace_AllocateBits",
            display_name="Allocate Bits",
            description="Measures how each layer's bits affect the image, and spends a bit budget where it helps most.",
            search_aliases=["mixed precision", "bit allocation", "quantize", "sensitivity", "quantface"],
            is_output_node=True,
            inputs=[
                FRModelSocket.Input("fr_model", tooltip="A full-precision model."),
                *face_inputs(16),
                io.Float.Input("activation_bits", default=4.0, min=0.0, max=8.0, step=0.05,
                               tooltip="Maximum average, weighted by multiply-accumulates; 0 = no limit."),
                io.Float.Input("weight_bits", default=4.0, min=0.0, max=8.0, step=0.05,
                               tooltip="Maximum average, weighted by parameters; 0 = no limit."),
                io.Float.Input("megabytes", default=0.0, min=0.0, max=100_000.0, step=0.1,
                               tooltip="Maximum size of the file's tensors; its header adds a little. 0 = no limit."),
                io.Float.Input("operations", default=0.0, min=0.0, max=1.0, step=0.01,
                               tooltip="Maximum bit operations; 1 = as many as with 8 bits everywhere. 0 = no limit."),
                io.String.Input("limits", default="", multiline=True,
                                tooltip="Minimum and maximum bits of a part, one per line, such as vae.decoder=5-8."),
                io.Combo.Input("metric", options=METRICS, default="ms_ssim",
                               tooltip="How a layer's damage is measured, besides the squared error. lpips and dists "
                               "need pyiqa (not for commercial use)."),
                advanced(io.Int.Input("rank", default=32, min=0, max=128,
                             tooltip="Rank of the low-rank branches of the model you will make.")),
                advanced(io.Int.Input("seed", default=0, min=0, max=2**31 - 1, control_after_generate=False,
                             tooltip="Seed of rotations and searches.")),
            ],
            outputs=[
                FRPlanSocket.Output("plan", display_name="FR_PLAN", tooltip="For Calibrate & Balance."),
                io.Image.Output("chart", display_name="chart", tooltip="The bits of every layer."),
                io.String.Output("report", display_name="report", tooltip="What the plan spends, as text."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, limits: str | None = None) -> bool | str:
        from ..quantface_core.errors import UsageError

        try:
            _limits(limits or "")
        except UsageError as error:
            return str(error)
        return True  # the folder is checked when the node runs: the host marks every input named here

    @classmethod
    def execute(
        cls,
        fr_model: FRModel,
        activation_bits: float,
        weight_bits: float,
        megabytes: float,
        operations: float,
        limits: str,
        metric: str,
        rank: int,
        seed: int,
        **given: Any,
    ) -> io.NodeOutput:
        from ..quantface_core.io.plans import plan_to_json
        from ..quantface_core.pipelines.allocate import AllocateRequest, allocate, check_metric
        from ..quantface_core.quant.budgets import check_budget
        from ..quantface_core.types import Budget, RestorerQuantConfig

        budget = Budget(
            activation_bits or None, weight_bits or None, megabytes or None, operations or None, _limits(limits)
        )
        check_budget(budget)
        check_metric(metric)
        sensitivity = _sensitivity(fr_model, face_source(**given), RestorerQuantConfig(rank=rank, seed=seed), metric)
        result = allocate(AllocateRequest(sensitivity, budget))
        losses = {name: layer.error for name, layer in sensitivity.layers.items()}
        return io.NodeOutput(
            result.plan,
            host.to_host(from_chart(result.chart)),
            f"{result.summary}\n{plan_to_json(result.plan)}",
            ui=previews.bits(result.plan, losses, "alone"),
        )


def _sensitivity(fr_model: FRModel, source: FaceSource, settings: RestorerQuantConfig, metric: str) -> Sensitivity:
    """The model's last measurement if it was made from the same faces and settings, else a new one."""
    from ..quantface_core.pipelines.allocate import MeasureRequest, measure
    from ..quantface_core.pipelines.checksums import images_sha256
    from ..quantface_core.pipelines.faces import load_faces
    from ..quantface_core.pipelines.models import LoadedModel

    callbacks = host.Progress().callbacks({"calibrate": (0, 0.1), "measure": (0.1, 1)})
    with torch.inference_mode(False), memory_given_back():
        images = load_faces(source, fr_model.restorer.image_size, callbacks)
        asked = repr((images_sha256(images), metric, settings))
        known, sensitivity = _last.get(fr_model, ("", None))
        if sensitivity is None or known != asked:
            model = LoadedModel(f"fr_model: {fr_model.name}", copy.deepcopy(fr_model.ready()))
            sensitivity = measure(MeasureRequest(model, images, settings, metric), callbacks)
            _last[fr_model] = asked, sensitivity
    return sensitivity


def _limits(text: str) -> dict[str, tuple[int, int]]:
    """Parse lines such as `vae.decoder=5-8` into {module: (minimum, maximum)}. Raises UsageError."""
    from ..quantface_core.errors import UsageError
    from ..quantface_core.quant.budgets import parse_limit

    try:
        return dict(parse_limit(line) for line in text.splitlines() if line.strip())
    except UsageError as error:
        raise UsageError(f"limits: {error}") from None
