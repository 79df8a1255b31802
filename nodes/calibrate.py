"""Calibrate & Balance."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io

from ..quantface_core.types import BRANCHES, ROUNDINGS
from . import host, previews
from .faces import FacesNode, face_inputs, face_source
from .fr_model import FRModel
from .host import FRModelSocket, FRPlanSocket, advanced
from .memory import memory_given_back
from .pictures import from_chart

if TYPE_CHECKING:
    from ..quantface_core.types import BitPlan, Branch, Rounding

PRESETS = ["w4a4", "w4a6", "w6a6", "w8a8"]
_WORST = 5  # layers named in the report


class CalibrateAndBalance(FacesNode):
    """Quantizes a model, all layers at the same widths or by a plan."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="QuantFace_CalibrateBalance",
            display_name="Calibrate & Balance",
            description="Turns a full-precision face restorer into a 3- to 8-bit integer model.",
            search_aliases=["quantize", "compress", "calibrate", "w4a4", "quantface"],
            has_intermediate_output=True,  # show its chart also when its result was cached
            inputs=[
                FRModelSocket.Input("fr_model", tooltip="A full-precision model."),
                *face_inputs(16),
                FRPlanSocket.Input("plan", optional=True,
                                   tooltip="From Allocate Bits: bit widths per layer, instead of the same everywhere."),
                io.Combo.Input("bits", options=PRESETS, default="w4a4",
                               tooltip="Bits of weights and activations; a plan overrides them."),
                io.Int.Input("rank", default=32, min=0, max=128,
                             tooltip="Rank of the low-rank branch beside each layer's integers; 0 = none."),
                advanced(io.Boolean.Input("unet_only", default=False,
                                 tooltip="Leave the autoencoder and embedder unchanged.")),
                advanced(io.Int.Input("seed", default=0, min=0, max=2**31 - 1, control_after_generate=False,
                             tooltip="Seed of rotations and searches.")),
                advanced(io.Combo.Input("rounding", options=list(ROUNDINGS), default=ROUNDINGS[0],
                             tooltip="compensated: rounds weights so that their errors cancel; nearest is faster.")),
                advanced(io.Combo.Input("branch", options=list(BRANCHES), default=BRANCHES[0],
                             tooltip="fisher: keeps what the image depends on most; svd needs less memory.")),
            ],
            outputs=[
                FRModelSocket.Output("fr_model_out", display_name="FR_MODEL", tooltip="The model in low bits."),
                io.Image.Output("chart", display_name="chart", tooltip="The error of every layer."),
                io.String.Output("report", display_name="report", tooltip="The largest errors, as text."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        fr_model: FRModel,
        bits: str,
        rank: int,
        unet_only: bool,
        seed: int,
        rounding: Rounding = "compensated",
        branch: Branch = "fisher",
        plan: BitPlan | None = None,
        **given: Any,
    ) -> io.NodeOutput:
        from ..quantface_core.charts import draw_layers
        from ..quantface_core.pipelines.models import LoadedModel
        from ..quantface_core.pipelines.quantize import QuantizeRequest, quantize
        from ..quantface_core.types import BitPlan, Bits, RestorerQuantConfig

        parts = ("unet",) if unet_only else ()
        settings = RestorerQuantConfig(
            *Bits.parse(bits), rank=rank, seed=seed, rounding=rounding, branch=branch, parts=parts
        )
        source = face_source(**given)
        with torch.inference_mode(False), memory_given_back():
            model = LoadedModel(f"fr_model: {fr_model.name}", copy.deepcopy(fr_model.ready()), fr_model.notes)
            callbacks = host.Progress().callbacks({"calibrate": (0, 0.2), "quantize": (0.2, 1)})
            result = quantize(QuantizeRequest(model, source, settings, plan), callbacks)
        reports = result.reports
        name = f"{fr_model.name}-{'plan' if plan else bits}"
        made = BitPlan(name, {r.name: r.format.bits for r in reports})
        lines = [f"{name}: {len(reports)} layers; largest errors:"]
        for r in sorted(reports, key=lambda r: -r.error_after)[:_WORST]:
            lines.append(f"{r.name}: {r.error_before:.2%} before, {r.error_after:.2%} after")
        return io.NodeOutput(
            FRModel(name, result.model.restorer, result.model.notes),
            host.to_host(from_chart(draw_layers(reports))),
            "\n".join(lines),
            ui=previews.bits(made, {r.name: r.error_after for r in reports}, "balanced"),
        )
