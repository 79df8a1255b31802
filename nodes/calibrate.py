"""Calibrate & Balance."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from comfy_api.latest import io

from . import faces as face_inputs
from . import host, previews
from .host import FRModel, FRModelSocket, FRPlanSocket, advanced
from .pictures import from_chart

if TYPE_CHECKING:
    from ..quantface_core.types import BitPlan, Branch, Rounding

PRESETS = ["w4a4", "w4a6", "w6a6", "w8a8"]
ROUNDINGS = ["compensated", "nearest"]
BRANCHES = ["fisher", "svd"]
_WORST = 5  # layers named in the report


class CalibrateAndBalance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="QuantFace_CalibrateBalance",
            display_name="Calibrate & Balance",
            description="Turns a full-precision face restorer into one of 3 to 8 bit integers.",
            search_aliases=["quantize", "compress", "calibrate", "w4a4", "quantface"],
            has_intermediate_output=True,  # its chart is shown where nothing had to be computed again, too
            inputs=[
                FRModelSocket.Input("fr_model", tooltip="A full-precision model."),
                *face_inputs.inputs(16),
                FRPlanSocket.Input("plan", optional=True,
                                   tooltip="From Allocate Bits: widths by layer, instead of the same everywhere."),
                io.Combo.Input("bits", options=PRESETS, default="w4a4",
                               tooltip="Of weights and activations; a plan goes before."),
                io.Int.Input("rank", default=32, min=0, max=128,
                             tooltip="Of the small branch beside each weight's integers; 0 = none."),
                advanced(io.Boolean.Input("unet_only", default=False,
                                 tooltip="Leave autoencoder and embedder as they are.")),
                advanced(io.Int.Input("seed", default=0, min=0, max=2**31 - 1, control_after_generate=False,
                             tooltip="Of rotations and searches.")),
                advanced(io.Combo.Input("rounding", options=ROUNDINGS, default="compensated",
                             tooltip="compensated: weights round so that their errors cancel; nearest is quicker.")),
                advanced(io.Combo.Input("branch", options=BRANCHES, default="fisher",
                             tooltip="fisher: keeps what the picture depends on most; svd takes less memory.")),
            ],
            outputs=[
                FRModelSocket.Output("fr_model_out", display_name="FR_MODEL"),
                io.Image.Output("chart", display_name="chart"),
                io.String.Output("report", display_name="report"),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, folder: str | None = None) -> bool | str:
        return face_inputs.validate(folder)

    @classmethod
    def fingerprint_inputs(cls, folder: str | None = None, **_: object) -> str:
        return face_inputs.fingerprint(folder)

    @classmethod
    def execute(
        cls,
        fr_model: FRModel,
        folder: str,
        count: int,
        find_faces: bool,
        degrade: bool,
        bits: str,
        rank: int,
        unet_only: bool,
        seed: int,
        rounding: Rounding = "compensated",
        branch: Branch = "fisher",
        faces: torch.Tensor | None = None,
        plan: BitPlan | None = None,
    ) -> io.NodeOutput:
        from ..quantface_core.charts import draw_layers
        from ..quantface_core.pipelines.models import LoadedModel
        from ..quantface_core.pipelines.quantize import QuantizeRequest, quantize
        from ..quantface_core.types import BitPlan, Bits, QuantizeSettings

        parts = ("unet",) if unet_only else ()
        settings = QuantizeSettings(
            *Bits.parse(bits), rank=rank, seed=seed, rounding=rounding, branch=branch, parts=parts
        )
        source = face_inputs.source(faces, folder, count, find_faces, degrade)
        with torch.inference_mode(False), host.memory_given_back():
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
