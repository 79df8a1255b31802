"""Crop Faces: the first of two nodes for processing faces with other nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io

from ..quantface_core.options import RestoreOptions
from . import host, previews
from .boxes import bounding_boxes, segments
from .face_detection import (
    FacesByImage,
    check_choice,
    check_selection,
    choice_inputs,
    chosen,
    detect_faces,
    limit_inputs,
    mark_inputs,
    unused_positions,
)
from .host import BoundingBoxSocket, CropsSocket, SegsSocket
from .pictures import as_pictures, stacked, to_pixels
from .report import Report

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..quantface_core.types import Face

_ONE_IMAGE = "segs are of one image, as Impact Pack's nodes take them: put Rebatch Images before Crop Faces"


@dataclass(frozen=True, eq=False)
class FaceCrops:
    """The value of a FACE_CROPS socket: the faces that were cut out, by image."""

    image: torch.Tensor  # [N, H, W, C], the input
    faces: FacesByImage  # by image, in the order of the crops

    @property
    def count(self) -> int:
        return sum(map(len, self.faces))


class CropFaces(io.ComfyNode):
    """Cuts faces out of images, aligned, for other nodes to process."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="QuantFace_CropFaces",
            display_name="Crop Faces",
            description="Cuts faces out, upright and aligned, for other nodes to process; Paste Faces puts them back.",
            search_aliases=[
                "face crop", "face detailer", "align face", "extract face", "face detection", "bbox", "segs",
                "quantface", "人脸裁剪",
            ],
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="One image, a batch, or the frames of a video."),
                *choice_inputs(),
                io.Int.Input("size", default=512, min=64, max=2048, step=8, tooltip="A crop's side, in pixels."),
                *limit_inputs(),
                io.Float.Input("smoothing", default=0.0, min=0.0, max=30.0, step=0.5,
                               tooltip="For the frames of a video: steadies the crops over about this many frames "
                               "before and after; 2 is a good start."),
                *mark_inputs(),
            ],
            outputs=[
                io.Image.Output("crops", display_name="crops",
                                tooltip="The aligned faces, to process with other nodes."),
                CropsSocket.Output("face_crops", display_name="FACE_CROPS",
                                   tooltip="For Paste Faces: the image, and where each crop was cut."),
                io.Mask.Output("masks", display_name="face masks", tooltip="The soft mask of the face in each crop."),
                io.String.Output("report", display_name="report", tooltip="Where the faces are, as text."),
                io.Image.Output("faces_out", display_name="faces",
                                tooltip="The crops again; without a face no value: nodes that use it do not run."),
                BoundingBoxSocket.Output("boxes_out", display_name="boxes", tooltip="Bounding boxes by image."),
                SegsSocket.Output("segs", display_name="segs",
                                  tooltip="For Impact Pack's detailers; of a single image."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, faces: str | None = None, positions: str | None = None) -> bool | str:
        return check_selection(faces, positions)

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        faces: str,
        positions: str,
        order: str,
        size: int,
        min_confidence: float,
        min_size: int,
        smoothing: float,
        face_mask: torch.Tensor | None = None,
        boxes: Any = None,
    ) -> io.NodeOutput:
        from ..quantface_core.faces.align import extract, face_transform
        from ..quantface_core.faces.paste import face_mask as soft_mask
        from ..quantface_core.faces.select import select_faces, sort_faces
        from ..quantface_core.faces.track import smooth_tracks

        options = RestoreOptions(**chosen(faces, positions, order, min_confidence, min_size))
        pictures, report = as_pictures(image), Report("cropped")
        report.note(unused_positions(faces, positions))
        found = detect_faces(pictures, face_mask, boxes, host.Progress(), report.note)
        report.note(check_choice(found, options, boxes, face_mask))
        height, width = pictures.shape[1:3]
        taken: FacesByImage = []
        crops: list[NDArray[np.float32]] = []
        numbered: list[tuple[Sequence[Face], Sequence[int]]] = []
        tracked = smooth_tracks(found, smoothing, (to_pixels(frame) for frame in pictures))
        for frame, here in zip(pictures, tracked, strict=True):
            host.stop_if_cancelled()
            ordered = sort_faces(here, options)
            numbers = select_faces(ordered, options, width, height)
            report.picture(ordered, numbers, numbers)
            numbered.append((ordered, numbers))
            taken.append(tuple(ordered[number] for number in numbers))
            pixels = to_pixels(frame)
            crops += [extract(pixels, face_transform(face, size), size) for face in taken[-1]]
        # Without a face, Paste Faces gets a black placeholder, which it ignores: for an output without a value the host
        # would silently skip every node downstream, Paste Faces and its image included.
        cut = stacked(crops) if crops else torch.zeros(1, size, size, 3)
        masks = torch.from_numpy(soft_mask(size)).repeat(len(crops), 1, 1) if crops else torch.zeros(1, size, size)
        return io.NodeOutput(
            host.to_host(cut),
            FaceCrops(image, taken),
            host.to_host(masks),
            report.text(),
            host.to_host(cut) if crops else host.nothing(),
            [bounding_boxes(here, width, height) for here in taken],
            segments(taken[0], width, height) if len(taken) == 1 else host.nothing(_ONE_IMAGE),
            ui=previews.numbered(pictures, numbered, cls) | previews.notes_below(report.shown_notes()),
        )
