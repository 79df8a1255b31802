"""Paste Faces: the second of two nodes for processing faces with other nodes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from comfy_api.latest import io

from ..quantface_core.options import COLORS, RestoreOptions
from . import host, previews
from .crop import FaceCrops
from .host import CropsSocket, advanced
from .image_batch import ImageBatch
from .pictures import as_pictures

_COLORS = sorted(COLORS, key=lambda method: method != "none")  # the default first: other nodes' colours are intended


class PasteFaces(io.ComfyNode):
    """Pastes processed crops back into the images that Crop Faces cut them from."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="QuantFace_PasteFaces",
            display_name="Paste Faces",
            description="Seamlessly puts back faces that Crop Faces cut out and other nodes processed.",
            search_aliases=[
                "face paste", "uncrop face", "stitch face", "face detailer", "composite face", "quantface",
            ],
            is_output_node=True,
            inputs=[
                CropsSocket.Input("face_crops", tooltip="From Crop Faces: where the faces go."),
                io.Image.Input("crops", lazy=True,
                               tooltip="The processed crops, the same number and order as they were cut; any size."),
                io.Float.Input("strength", default=1.0, min=0.0, max=1.0, step=0.05,
                               tooltip="0 leaves the image as it was, 1 uses the processed face fully."),
                io.Combo.Input("color", options=_COLORS, default=_COLORS[0],
                               tooltip="Whether and how pasted faces are matched to the image's colours."),
                advanced(io.Float.Input("feather", default=RestoreOptions.feather, min=0.0, max=1.0, step=0.02,
                                        tooltip="How softly a face blends into the image: 0 = a hard edge, "
                                        "1 = fading from its centre on.")),
                io.Mask.Input("mask", optional=True, tooltip="Change the image only where this is white."),
                io.Image.Input("background", optional=True,
                               tooltip="The same image, enlarged by other nodes: faces are pasted onto it."),
            ],
            outputs=[
                io.Image.Output("image_out", display_name="IMAGE",
                                tooltip="The images with the processed faces, with their transparency."),
                io.Mask.Output("changed", display_name="changed", tooltip="White where the image changed."),
                io.String.Output("report", display_name="report", tooltip="What was pasted, as text."),
            ],
        )  # fmt: skip

    @classmethod
    def check_lazy_status(cls, face_crops: FaceCrops | None = None, **_: object) -> list[str]:
        """Tell the host which lazy inputs are needed: the processed crops, unless no face was cut out."""
        return ["crops"] if face_crops is None or face_crops.count else []

    @classmethod
    def execute(
        cls,
        face_crops: FaceCrops,
        strength: float,
        color: str,
        feather: float,
        crops: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        background: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        from ..quantface_core.faces.select import sort_faces

        batch = ImageBatch(face_crops.image, mask, background, "pasted")
        treated = iter(_checked(crops, face_crops.count))
        options = RestoreOptions(min_confidence=0.0, strength=strength, color=color, feather=feather, batch_size=1)
        bar = host.Progress()
        for index, faces in enumerate(face_crops.faces):
            own = {id(face): next(treated) for face in faces}
            ordered = sort_faces(faces, options)  # as the library will count them, in whatever order they were cut
            batch.restore(index, ordered, _Treated([own[id(face)] for face in ordered]), options)
            bar(index + 1, batch.count)
        return io.NodeOutput(
            host.to_host(batch.pictures),
            host.to_host(batch.changed),
            batch.report.text(),
            ui=previews.before_after(batch.image, batch.pictures, cls, batch.report.shown_notes()),
        )


def _checked(crops: torch.Tensor | None, count: int) -> torch.Tensor | tuple[()]:
    """Return the processed crops as [N, S, S, 3], one per face. Raises UsageError, ImageError."""
    from ..quantface_core.errors import ImageError, UsageError

    if not count:
        return ()
    if crops is None:
        raise UsageError("crops: connect the processed crops")
    crops = as_pictures(crops)
    if len(crops) != count:
        raise UsageError(f"crops: {len(crops)} came back of {count} that were cut: process each, and keep their order")
    if crops.shape[1] != crops.shape[2]:
        raise UsageError(f"crops: they must stay square as they were cut, got {crops.shape[2]}x{crops.shape[1]}")
    if not torch.isfinite(crops).all():
        raise ImageError("crops: they contain NaN or infinite values: check the node that made them")
    return crops


class _Treated:
    """Stands in for a restorer: returns the processed crops [S, S, 3] in order."""

    keeps_contrast = True

    def __init__(self, crops: list[torch.Tensor]) -> None:
        self.image_size = len(crops[0]) if crops else 64
        self.device = torch.device("cpu")
        self._crops = iter(crops)

    def __call__(self, image: torch.Tensor, seeds: Sequence[int] | None = None) -> torch.Tensor:
        """The next B crops, as [B, 3, S, S] in [-1, 1]."""
        return torch.stack([next(self._crops).cpu() for _ in image]).movedim(-1, 1) * 2 - 1
