"""Restore Face."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io

from . import host, previews
from .host import BoxesSocket, FRModel, FRModelSocket, advanced, with_options
from .pictures import as_masks, as_pictures, boxes_of_frame, from_pixels, of_frame, stacked, to_pixels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..quantface_core import Restoration
    from ..quantface_core.types import Face

CHOICES = ["all", "largest", "positions"]
BLENDS = ["auto", "strength"]
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
                io.String.Input("positions", default="0", tooltip="With faces = positions: such as 0,2, from 0."),
                advanced(io.Combo.Input("order", options=["left-to-right", "size"], default="left-to-right",
                                        tooltip="How positions count: from the left, or from the largest.")),
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
    def validate_inputs(cls, faces: str | None = None, positions: str | None = None) -> bool | str:
        if (
            faces == "positions"
            and positions is not None
            and not all(part.strip().isdecimal() for part in positions.split(","))
        ):
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
        feather: float,
        smoothing: float,
        batch_size: int,
        blend: str = "auto",
        mask: torch.Tensor | None = None,
        face_mask: torch.Tensor | None = None,
        boxes: Any = None,
        background: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        from ..quantface_core import RestoreOptions, restore_photo
        from ..quantface_core.faces.track import steady

        host.insist(cls.validate_inputs(faces, positions))
        image, mask, face_mask = as_pictures(image), as_masks(mask), as_masks(face_mask)
        background = None if background is None else as_pictures(background)
        options = RestoreOptions(
            faces=tuple(int(part) for part in positions.split(",")) if faces == "positions" else faces,
            order=order,
            min_size=min_size,
            min_confidence=min_confidence,
            strength="auto" if blend == "auto" else strength,
            color=color,
            upscale=int(upscale),
            feather=feather,
            batch_size=batch_size,
        )
        restorer, bar = fr_model.ready(batch_size or _BATCH), host.Progress()
        find = _finder(face_mask, boxes, len(image))
        found, looking = [], bar.part(0, _LOOKING)
        for index, frame in enumerate(image):
            looking(index, len(image))
            found.append(find(index, to_pixels(frame)))
        frames, changed, crops, report = [], [], [], []
        with host.cancellable(restorer):
            for index, (frame, here) in enumerate(zip(image, steady(found, smoothing), strict=True)):
                behind = None if background is None else of_frame(background, index)
                beneath = None if behind is None else to_pixels(behind)
                share = (1 - _LOOKING) / len(image)
                told = bar.part(_LOOKING + index * share, _LOOKING + (index + 1) * share)
                result = restore_photo(to_pixels(frame), restorer, here, options, told, beneath)
                base, within = frame if behind is None else behind, None if mask is None else of_frame(mask, index)
                picture, area = from_pixels(result.pixels, result.mask, base, within)
                frames.append(picture)
                changed.append(area)
                crops += result.restored_crops
                report += _lines(index, result)
                if within is not None and result.restored and not area.any():
                    report.append("  the mask leaves nothing of it: the picture may change where the mask is white")
                preview = (picture.numpy() * 255).astype("uint8") if len(image) > 1 else None
                bar(round(1000 * (_LOOKING + (index + 1) * share)), 1000, preview)
        pictures = torch.stack(frames)
        return io.NodeOutput(
            host.to_host(pictures),
            host.to_host(stacked(crops, restorer.config.image_size)),
            host.to_host(torch.stack(changed)),
            "\n".join(report),
            ui=previews.before_after(image, pictures, cls),
        )


def _finder(face_mask: torch.Tensor | None, boxes: Any, frames: int) -> Any:
    """What finds the faces of a frame (index, pixels): the user's boxes, the user's mask, or the detector."""
    from ..quantface_core import FaceDetector, detector_path
    from ..quantface_core.faces.boxes import boxes_in_mask

    detector = FaceDetector(detector_path())

    def find(index: int, pixels: NDArray[np.uint16]) -> tuple[Face, ...]:
        if boxes is None and face_mask is None:
            return detector(pixels)
        height, width = pixels.shape[:2]
        given = [] if boxes is None else boxes_of_frame(boxes, index, frames)
        outside = [b for b in given if b[0] >= width or b[1] >= height or b[0] + b[2] <= 0 or b[1] + b[3] <= 0]
        if outside:  # as a tracker's are, whose face has left the picture
            logging.warning("QuantFace: picture %d: no face is restored at %s, outside of it", index, outside)
            given = [box for box in given if box not in outside]
        if face_mask is not None:
            area = of_frame(face_mask, index).cpu()
            whole = torch.nn.functional.interpolate(area[None, None], size=(height, width))[0, 0]
            given += boxes_in_mask(whole.numpy())
        return detector.within(pixels, given)

    return find


def _lines(index: int, result: Restoration) -> list[str]:
    """What was done to one picture: a line for it, and one for each face."""
    from ..quantface_core.stages.restore import in_words

    lines = [f"picture {index}: {len(result.restored)} of {len(result.faces)} faces restored"]
    for number, face in enumerate(result.faces):
        left, top, width, height = (round(v) for v in face.box)
        state = in_words(result.taken[result.restored.index(number)]) if number in result.restored else "not chosen"
        lines.append(f"  face {number}: {width}x{height} at {left},{top}, confidence {face.score:.2f}, {state}")
    return lines
