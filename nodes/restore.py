"""Restore Face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io

from . import host, previews
from .finding import check_choice, find_faces
from .host import BoxesSocket, FRModel, FRModelSocket, advanced, with_options
from .pictures import (
    alpha_of,
    as_masks,
    as_pictures,
    from_pixels,
    of_frame,
    stacked,
    to_pixels,
    with_alpha,
    within_mask,
)
from .report import Report, changed_faces

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..quantface_core import OneStepRestorer, RestoreOptions
    from ..quantface_core.stages.restore import Progress
    from ..quantface_core.types import Face

ORDERS = ["left-to-right", "size", "confidence"]
CHOICES = ["all", "largest", "positions"]
BLENDS = ["auto", "strength"]
_DARK = (
    "mask is black all over, as Load Image gives for a picture without transparency: nothing may change. "
    "Disconnect it, or paint where faces may change"
)
_LOOKING = 0.1  # of the progress bar, for finding the faces
_BATCH = 4  # faces at once for which a GPU makes room, unless the user says


class RestoreFace(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="QuantFace_RestoreFace",
            display_name="Restore Face",
            description="Finds every face of every picture, restores it, and puts it back without seams.",
            search_aliases=["face restoration", "face fix", "enhance face", "gfpgan", "codeformer", "quantface"],
            is_output_node=True,
            inputs=[
                FRModelSocket.Input("fr_model", tooltip="From Load Quantized FR Model."),
                io.Image.Input("image", tooltip="One picture, a batch, or the frames of a video."),
                io.Combo.Input("faces", options=CHOICES, default="all", tooltip="Which faces to restore."),
                io.String.Input("positions", default="0", tooltip="For faces = positions: such as 0,2 or 0-3."),
                advanced(io.Combo.Input("order", options=ORDERS, default="left-to-right",
                                        tooltip="How positions count: from the left, the largest, or the surest.")),
                io.Float.Input("strength", default=1.0, min=0.0, max=1.0, step=0.05,
                               tooltip="With blend = strength: 0 leaves the picture as it was, 1 restores fully."),
                io.Combo.Input("color", options=["wavelet", "adain", "none"], default="wavelet",
                               tooltip="How restored faces take on the picture's colours."),
                io.Combo.Input("upscale", options=["1", "2", "4"], default="1",
                               tooltip="Enlarge the picture too (Lanczos); faces are restored at that size."),
                advanced(io.Float.Input("min_confidence", default=0.7, min=0.0, max=1.0, step=0.05,
                                        tooltip="Ignore faces the detector is less sure of.")),
                advanced(io.Int.Input("min_size", default=0, min=0, max=4096,
                                      tooltip="Ignore smaller faces, in pixels.")),
                advanced(io.Float.Input("feather", default=0.32, min=0.0, max=1.0, step=0.02,
                                        tooltip="How softly a face fades into the picture: 0 = a hard rim, "
                                        "1 = from its middle on.")),
                io.Float.Input("smoothing", default=0.0, min=0.0, max=30.0, step=0.5,
                               tooltip="For the frames of a video: steadies faces over about so many frames before "
                               "and after, and closes short gaps; 2 is a good start. 0 = each picture by itself."),
                advanced(io.Int.Input("batch_size", default=0, min=0, max=64,
                                      tooltip="Faces at once: 0 = as many as are quick on your device. Less needs less "
                                      "memory; the picture stays the same.")),
                io.Combo.Input("blend", options=BLENDS, default="auto",
                               tooltip="auto: of each restored face takes what helps, pixel by pixel, and leaves sharp "
                               "faces as they are. strength: the same share everywhere, as set in strength."),
                io.Mask.Input("mask", optional=True, tooltip="Change the picture only where this is white."),
                io.Mask.Input("face_mask", optional=True,
                              tooltip="Instead of the detector: each separate white area is a face."),
                with_options(
                    BoxesSocket.Input("boxes", optional=True,
                                      tooltip="Instead of the detector: bounding boxes of the faces."),
                    forceInput=True,  # newer hosts have a widget for the type, which makes boxes by hand
                ),
                io.Image.Input("background", optional=True,
                               tooltip="The same picture, enlarged by other nodes: faces are pasted onto it."),
            ],
            outputs=[
                io.Image.Output("image_out", display_name="IMAGE"),
                io.Image.Output("crops", display_name="restored faces"),
                io.Mask.Output("changed", display_name="changed"),
                io.String.Output("report", display_name="report"),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, positions: str | None = None) -> bool | str:
        from ..quantface_core.errors import UsageError
        from ..quantface_core.faces.select import parse_positions

        try:
            if positions and positions.strip(" ,"):  # none are no harm while other faces are asked for
                parse_positions(positions)
        except UsageError as error:
            return str(error)
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
        feather: float,
        smoothing: float,
        batch_size: int,
        blend: str = "auto",
        mask: torch.Tensor | None = None,
        face_mask: torch.Tensor | None = None,
        boxes: Any = None,
        background: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        from ..quantface_core import RestoreOptions
        from ..quantface_core.faces.select import parse_positions
        from ..quantface_core.faces.track import steady

        host.insist(cls.validate_inputs(positions))
        job = _Job(image, mask, background)
        options = RestoreOptions(
            faces=parse_positions(positions) if faces == "positions" else faces,
            order=order,
            min_size=min_size,
            min_confidence=min_confidence,
            strength="auto" if blend == "auto" else strength,
            color=color,
            upscale=int(upscale),
            feather=feather,
            batch_size=batch_size,
        )
        bar = host.Progress()
        marks = as_masks(face_mask)
        found = find_faces(job.image, marks, boxes, bar.part(0, _LOOKING), job.report.note, job.dark)
        if all(job.dark):
            job.report.note(_DARK)
        else:
            given = [name for name, value in (("boxes", boxes), ("face_mask", marks)) if value is not None]
            job.report.note(check_choice(found, options, given))
        # A model is brought to the device that computes only where there is something for it to do.
        restorer = fr_model.ready(batch_size or _BATCH) if any(found) else fr_model.restorer
        with host.cancellable(restorer):
            for index, here in enumerate(steady(found, smoothing)):
                start, share = _LOOKING + index * (1 - _LOOKING) / job.count, (1 - _LOOKING) / job.count
                picture = job.restore(index, here, restorer, options, bar.part(start, start + share))
                preview = (picture[..., :3].numpy() * 255).astype("uint8") if job.count > 1 else None
                bar(round(1000 * (start + share)), 1000, preview)
        pictures = torch.stack(job.frames)
        return io.NodeOutput(
            host.to_host(pictures),
            host.to_host(stacked(job.crops)) if job.crops else host.nothing(),
            host.to_host(torch.stack(job.changed)),
            job.report.text("restored"),
            ui=previews.before_after(job.image, pictures, cls, job.report.notes),
        )


class _Job:
    """Pictures on their way through: what goes in, and what comes out picture by picture."""

    def __init__(self, image: torch.Tensor, mask: torch.Tensor | None, background: torch.Tensor | None) -> None:
        """Raises ImageError for what are no pictures."""
        self.image, self.mask = as_pictures(image), as_masks(mask)
        self.background = None if background is None else as_pictures(background)
        alphas = alpha_of(background), alpha_of(image)
        self.alpha = alphas[1] if alphas[0] is None else alphas[0]
        self.count = len(self.image)
        # Pictures of which nothing may change: no face is looked for there.
        self.dark = [self.mask is not None and not (of_frame(self.mask, i) > 0).any() for i in range(self.count)]
        self.frames: list[torch.Tensor] = []
        self.changed: list[torch.Tensor] = []
        self.crops: list[NDArray[np.float32]] = []
        self.report = Report()

    def restore(
        self, index: int, faces: Sequence[Face], restorer: OneStepRestorer, options: RestoreOptions, told: Progress
    ) -> torch.Tensor:
        """The picture [H, W, 3 or 4] of an index, its faces restored; kept with its mask, crops and report."""
        from ..quantface_core import restore_photo
        from ..quantface_core.stages.restore import in_words, left_alone

        frame, faces = self.image[index], () if self.dark[index] else faces
        behind = None if self.background is None else of_frame(self.background, index)
        within = None if self.mask is None else of_frame(self.mask, index)
        pixels, beneath = to_pixels(frame), None if behind is None else to_pixels(behind)
        result = restore_photo(pixels, restorer, faces, options, told, beneath)
        base = frame if behind is None else behind
        if options.upscale > 1:  # as it is enlarged without a face
            base = from_pixels(restore_photo(pixels, restorer, (), options).pixels)
        picture, area = within_mask(from_pixels(result.pixels), result.mask, base, within)
        tried = {number: result.faces[number] for number in result.restored}
        changed = changed_faces(base.cpu(), picture, tried, pixels.shape[:2])
        taken = dict(zip(result.restored, result.taken, strict=True))
        words = {number: in_words(share) for number, share in taken.items() if number in changed or left_alone(share)}
        changed = tuple(number for number in changed if not left_alone(taken[number]))
        if self.dark[index]:
            self.report.left_out("its mask is black")
        else:
            self.report.picture(result.faces, result.restored, changed, "restored", words)
        if within is not None and result.restored and not area.any():
            self.report.note("mask: no face is where it is white")
        self.changed.append(area)
        self.crops += result.restored_crops
        alpha = None if self.alpha is None else of_frame(self.alpha, index)
        self.frames.append(with_alpha(picture, alpha))
        return self.frames[-1]
