"""Restore Face."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui

from . import host
from .host import FRModel, FRModelSocket
from .pictures import from_pixels, stacked, to_pixels

CHOICES = ["all", "largest", "positions"]


class RestoreFace(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="QuantFace_RestoreFace",
            display_name="Restore Face",
            description="Finds every face of every picture, restores it, and puts it back without seams.",
            search_aliases=["face restoration", "face fix", "enhance face", "gfpgan", "codeformer", "quantface"],
            inputs=[
                FRModelSocket.Input("fr_model", tooltip="From Load Quantized FR Model."),
                io.Image.Input("image", tooltip="One picture, a batch, or the frames of a video."),
                io.Combo.Input("faces", options=CHOICES, default="all", tooltip="Which faces to restore."),
                io.String.Input("positions", default="0", tooltip="With faces = positions: such as 0,2, from 0."),
                io.Combo.Input("order", options=["left-to-right", "size"], default="left-to-right",
                               tooltip="How positions count: from the left, or from the largest."),
                io.Float.Input("strength", default=1.0, min=0.0, max=1.0, step=0.05,
                               tooltip="0 leaves the picture as it was, 1 restores fully."),
                io.Combo.Input("color", options=["wavelet", "adain", "none"], default="wavelet",
                               tooltip="How restored faces take on the picture's colours."),
                io.Combo.Input("upscale", options=["1", "2", "4"], default="1",
                               tooltip="Enlarge the picture too (Lanczos); faces are restored at that size."),
                io.Float.Input("min_confidence", default=0.7, min=0.0, max=1.0, step=0.05,
                               tooltip="Ignore faces the detector is less sure of."),
                io.Int.Input("min_size", default=0, min=0, max=4096, tooltip="Ignore smaller faces, in pixels."),
                io.Int.Input("batch_size", default=4, min=1, max=64,
                             tooltip="Faces at once. Less needs less memory; the picture stays the same."),
                io.Mask.Input("mask", optional=True, tooltip="Change the picture only where this is white."),
            ],
            outputs=[
                io.Image.Output("image_out", display_name="IMAGE"),
                io.Image.Output("crops", display_name="restored faces"),
                io.Mask.Output("changed", display_name="changed"),
                io.String.Output("report", display_name="report"),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, faces: str, positions: str) -> bool | str:
        if faces == "positions" and not all(part.strip().isdigit() for part in positions.split(",")):
            return f"positions {positions!r}: give whole numbers from 0, such as 0,2"
        return True

    @classmethod
    def execute(
        cls,
        fr_model: FRModel,
        image: torch.Tensor,
        faces: str,
        positions: str,
        order: str,
        strength: float,
        color: str,
        upscale: str,
        min_confidence: float,
        min_size: int,
        batch_size: int,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        from ..quantface_core import FaceDetector, RestoreOptions, detector_path, restore_photo

        options = RestoreOptions(
            faces=tuple(int(part) for part in positions.split(",")) if faces == "positions" else faces,
            order=order,
            min_size=min_size,
            min_confidence=min_confidence,
            strength=strength,
            color=color,
            upscale=int(upscale),
            batch_size=batch_size,
        )
        restorer, detector = fr_model.ready(), FaceDetector(detector_path())
        frames, changed, crops, report = [], [], [], []
        bar = host.progress(len(image))
        for index, frame in enumerate(image):
            bar(index, len(image))
            pixels = to_pixels(frame)
            result = restore_photo(pixels, restorer, detector(pixels), options, lambda *_: host.stop_if_cancelled())
            within = None if mask is None else mask[min(index, len(mask) - 1)]
            picture, area = from_pixels(result.pixels, result.mask, frame, within)
            frames.append(picture)
            changed.append(area)
            crops += result.restored_crops
            report.append(f"picture {index}: {len(result.restored)} of {len(result.faces)} faces restored")
        bar(len(image), len(image))
        pictures = torch.stack(frames)
        return io.NodeOutput(
            host.to_host(pictures),
            host.to_host(stacked(crops, restorer.config.image_size)),
            host.to_host(torch.stack(changed)),
            "\n".join(report),
            ui=ui.PreviewImage(pictures, cls=cls),
        )
