"""Restore Face."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from . import host, previews
from .face_detection import (
    check_choice,
    check_selection,
    choice_inputs,
    chosen,
    detect_faces,
    limit_inputs,
    mark_inputs,
    unused_positions,
)
from .fr_model import FRModel
from .host import FRModelSocket
from .image_batch import ImageBatch
from .memory import memory_given_back
from .pictures import stacked, to_pixels
from .restore_options import (
    batch_size_input,
    blend_input,
    color_input,
    feather_input,
    fidelity_input,
    grain_input,
    restore_options,
    seed_input,
    strength_input,
    unused_strength,
    upscale_input,
)

_LOOKING = 0.1  # share of the progress bar for detecting faces
_PREVIEW = 512  # pixels, longest side of a finished frame's preview


class RestoreFace(io.ComfyNode):
    """Restores the faces of images, and pastes them back."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="QuantFace_RestoreFace",
            display_name="Restore Face",
            description="Finds every face in every image, restores it, and puts it back seamlessly.",
            search_aliases=[
                "face restoration", "face fix", "enhance face", "upscale face", "deblur", "unblur", "denoise face",
                "sharpen face", "portrait", "old photo", "gfpgan", "codeformer", "restoreformer", "quantface",
                "人脸修复", "老照片",
            ],
            is_output_node=True,
            inputs=[
                FRModelSocket.Input("fr_model", tooltip="From Load Quantized FR Model."),
                io.Image.Input("image", tooltip="One image, a batch, or the frames of a video."),
                *choice_inputs(),
                strength_input(),
                color_input(),
                upscale_input(),
                *limit_inputs(),
                feather_input(),
                io.Float.Input("smoothing", default=0.0, min=0.0, max=30.0, step=0.5,
                               tooltip="For the frames of a video: steadies faces over about this many frames before "
                               "and after, and closes short gaps; 2 is a good start. 0 = each image on its own."),
                batch_size_input(),
                blend_input(),
                seed_input(),
                io.Mask.Input("mask", optional=True, tooltip="Change the image only where this is white."),
                *mark_inputs(),
                io.Image.Input("background", optional=True,
                               tooltip="The same image, enlarged by other nodes: faces are pasted onto it."),
                fidelity_input(),
                grain_input(),
            ],
            outputs=[
                io.Image.Output("image_out", display_name="IMAGE",
                                tooltip="The restored images, with their transparency."),
                io.Image.Output("crops", display_name="restored faces",
                                tooltip="Every restored face as the model made it, cropped."),
                io.Mask.Output("changed", display_name="changed", tooltip="White where the image changed."),
                io.String.Output("report", display_name="report", tooltip="What was found and done, as text."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, faces: str | None = None, positions: str | None = None) -> bool | str:
        return check_selection(faces, positions)

    @classmethod
    def execute(
        cls,
        fr_model: FRModel,
        image: torch.Tensor,
        faces: str,
        positions: str,
        order: str,
        min_confidence: float,
        min_size: int,
        smoothing: float,
        strength: float,
        mask: torch.Tensor | None = None,
        face_mask: torch.Tensor | None = None,
        boxes: Any = None,
        background: torch.Tensor | None = None,
        **given: Any,
    ) -> io.NodeOutput:
        from ..quantface_core.faces.track import smooth_tracks

        selection = chosen(faces, positions, order, min_confidence, min_size)
        options = restore_options(fr_model, selection, strength=strength, **given)
        batch = ImageBatch(image, mask, background, "restored", options.upscale)
        batch.report.note(unused_positions(faces, positions))
        batch.report.note(unused_strength(options, strength))
        bar = host.Progress()
        found = detect_faces(batch.image, face_mask, boxes, bar.part(0, _LOOKING), batch.report.note, batch.dark)
        if not all(batch.dark):
            batch.report.note(check_choice(found, options, boxes, face_mask))
        # Load the model onto the compute device only if there are faces; images are restored one at a time.
        most = max(map(len, found), default=0)
        restorer = fr_model.ready(most, options.batch_size) if most else fr_model.restorer
        with memory_given_back():
            frames = (to_pixels(frame) for frame in batch.image)
            for index, here in enumerate(smooth_tracks(found, smoothing, frames)):
                start, share = _LOOKING + index * (1 - _LOOKING) / batch.count, (1 - _LOOKING) / batch.count
                picture = batch.restore(
                    index, here, restorer, options, bar.callbacks({"restore": (start, start + share)})
                )
                preview = (picture[..., :3].clamp(0, 1) * 255).byte().numpy() if batch.count > 1 else None
                bar(round(1000 * (start + share)), 1000, preview, _PREVIEW)
        if batch.no_gain:
            batch.report.note(batch.no_gain)
        return io.NodeOutput(
            host.to_host(batch.pictures),
            host.to_host(stacked(batch.crops)) if batch.crops else host.nothing(),
            host.to_host(batch.changed),
            batch.report.text(),
            ui=previews.before_after(batch.image, batch.pictures, cls, batch.report.shown_notes()),
        )
