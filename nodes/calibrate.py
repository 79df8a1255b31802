"""Calibrate & Balance."""

from __future__ import annotations

import copy
import re

import torch
from comfy_api.latest import io

from . import host
from .host import FRModel, FRModelSocket

PRESETS = ["w4a4", "w4a6", "w6a6", "w8a8"]
_SEARCHED = 2  # images at once in the searches: more is slower and hardly better


class CalibrateAndBalance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="QuantFace_CalibrateBalance",
            display_name="Calibrate & Balance",
            description="Turns a full-precision face restorer into one of 4 to 8 bit integers.",
            search_aliases=["quantize", "compress", "calibrate", "w4a4", "quantface"],
            inputs=[
                FRModelSocket.Input("fr_model", tooltip="A full-precision model."),
                io.Image.Input("faces", tooltip="8 to 32 aligned faces, as blurred or noisy as those to restore."),
                io.Combo.Input("bits", options=PRESETS, default="w4a4", tooltip="Of weights and activations."),
                io.Int.Input("rank", default=16, min=0, max=128,
                             tooltip="Of the small branch that keeps the largest part of each weight; 0 = none."),
                io.Boolean.Input("unet_only", default=False, tooltip="Leave autoencoder and embedder as they are."),
                io.Int.Input("seed", default=0, min=0, max=2**31 - 1, tooltip="Of rotations and searches."),
            ],
            outputs=[
                FRModelSocket.Output("fr_model_out", display_name="FR_MODEL"),
                io.String.Output("report", display_name="report"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, fr_model: FRModel, faces: torch.Tensor, bits: str, rank: int, unet_only: bool, seed: int
    ) -> io.NodeOutput:
        from ..quantface_core.errors import UsageError
        from ..quantface_core.kernels.dispatch import choose_backend
        from ..quantface_core.nn.swap import prepare, quant_layers
        from ..quantface_core.stages.calibrate import calibrate
        from ..quantface_core.stages.quantize import quantize_restorer
        from ..quantface_core.types import QuantizeSettings

        if quant_layers(fr_model.restorer):
            raise UsageError(f"{fr_model.name} is quantized already: load its full-precision original")
        weight_bits, activation_bits = map(int, re.findall(r"\d", bits))
        parts = ("unet",) if unet_only else QuantizeSettings().parts
        settings = QuantizeSettings(weight_bits, activation_bits, rank=rank, seed=seed, parts=parts)
        with torch.inference_mode(False):
            restorer = copy.deepcopy(fr_model.ready())
            size = restorer.config.image_size
            images = faces[..., :3].clone().movedim(-1, 1).float() * 2 - 1
            images = torch.nn.functional.interpolate(images, size=(size, size), mode="area")
            statistics = calibrate(restorer, images, host.progress(len(images)))
            reports = quantize_restorer(restorer, statistics, images[:_SEARCHED], settings, host.progress(1))
            prepare(restorer, choose_backend(restorer.device))
        worst = sorted(reports, key=lambda report: -report.error_after)[:5]
        lines = [f"{len(reports)} layers at {bits}; largest errors:"]
        lines += [
            f"{report.name}: {report.error_before:.2%} before, {report.error_after:.2%} after" for report in worst
        ]
        return io.NodeOutput(FRModel(f"{fr_model.name}-{bits}", restorer), "\n".join(lines))
