"""Compare FR Models."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui

from . import host
from .host import FRModel, FRModelSocket
from .pictures import to_pixels


class CompareModels(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="QuantFace_CompareModels",
            display_name="Compare FR Models",
            description="Restores aligned faces with two models, side by side, and tells how far apart they are.",
            search_aliases=["compare", "psnr", "quantface"],
            inputs=[
                FRModelSocket.Input("first", tooltip="Such as the full-precision model."),
                FRModelSocket.Input("second", tooltip="Such as its 4-bit version."),
                io.Image.Input("faces", tooltip="Aligned faces, square."),
            ],
            outputs=[
                io.Image.Output("image", display_name="side by side"),
                io.String.Output("report", display_name="report"),
            ],
        )

    @classmethod
    def execute(cls, first: FRModel, second: FRModel, faces: torch.Tensor) -> io.NodeOutput:
        from ..quantface_core import RestoreOptions, restore_aligned

        options = RestoreOptions(color="none")
        rows, lines = [], []
        bar = host.progress(len(faces))
        for index, face in enumerate(faces):
            bar(index, len(faces))
            pixels = to_pixels(face)
            a, b = (
                torch.from_numpy(restore_aligned(pixels, model.ready(), options).pixels / 65535.0).float()
                for model in (first, second)
            )
            rows.append(torch.cat([face[..., :3].float().cpu(), a, b], dim=1))
            error = float((a - b).square().mean())
            psnr = "identical" if error == 0 else f"{-10 * torch.tensor(error).log10():.2f} dB"
            lines.append(f"face {index}: PSNR of {second.name} to {first.name} {psnr}")
        pictures = torch.stack(rows)
        return io.NodeOutput(host.to_host(pictures), "\n".join(lines), ui=ui.PreviewImage(pictures, cls=cls))
