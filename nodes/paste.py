"""Paste Faces: the second of the pair for graphs that treat faces by other means."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from comfy_api.latest import io

from . import host, previews
from .crop import FaceCrops
from .host import CropsSocket, advanced
from .image_batch import ImageBatch
from .pictures import as_pictures


class PasteFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="QuantFace_PasteFaces",
            display_name="Paste Faces",
            description="Puts faces that Crop Faces cut out, and other nodes treated, back without seams.",
            search_aliases=["face paste", "uncrop face", "face detailer", "composite face", "quantface"],
            is_output_node=True,
            inputs=[
                CropsSocket.Input("face_crops", tooltip="From Crop Faces: where the faces go."),
                io.Image.Input("crops", lazy=True,
                               tooltip="The treated crops, as many and in the order they were cut in; of any size."),
                io.Float.Input("strength", default=1.0, min=0.0, max=1.0, step=0.05,
                               tooltip="0 leaves the picture as it was, 1 takes the treated face."),
                io.Combo.Input("color", options=["none", "wavelet", "adain"], default="none",
                               tooltip="Whether pasted faces take on the picture's colours, and how."),
                advanced(io.Float.Input("feather", default=0.32, min=0.0, max=1.0, step=0.02,
                                        tooltip="How softly a face fades into the picture: 0 = a hard rim, "
                                        "1 = from its middle on.")),
                io.Mask.Input("mask", optional=True, tooltip="Change the picture only where this is white."),
                io.Image.Input("background", optional=True,
                               tooltip="The same picture, enlarged by other nodes: faces are pasted onto it."),
            ],
            outputs=[
                io.Image.Output("image_out", display_name="IMAGE"),
                io.Mask.Output("changed", display_name="changed"),
                io.String.Output("report", display_name="report"),
            ],
        )  # fmt: skip

    @classmethod
    def check_lazy_status(cls, face_crops: FaceCrops | None = None, **_: object) -> list[str]:
        """The host's question what else it needs: without a face there is nothing to treat, and no treated crop."""
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
        from ..quantface_core import RestoreOptions
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
    """Treated crops [N, S, S, 3], as many as were cut. Raises UsageError, ImageError."""
    from ..quantface_core.errors import ImageError, UsageError

    if not count:
        return ()
    if crops is None:
        raise UsageError("crops: connect the treated crops")
    crops = as_pictures(crops)
    if len(crops) != count:
        raise UsageError(f"crops: {len(crops)} came back of {count} that were cut: treat each, and keep their order")
    if crops.shape[1] != crops.shape[2]:
        raise UsageError(f"crops: they are square and have to stay so, got {crops.shape[2]}x{crops.shape[1]}")
    if not torch.isfinite(crops).all():
        raise ImageError("crops: they hold NaN or infinite values: look at the node that made them")
    return crops


class _Treated:
    """What the library takes for a restorer: its pictures [S, S, 3] are there already, and are given out in order."""

    def __init__(self, crops: list[torch.Tensor]) -> None:
        self.image_size = len(crops[0]) if crops else 64
        self.device = torch.device("cpu")
        self._crops = iter(crops)

    def __call__(self, image: torch.Tensor, seeds: Sequence[int] | None = None) -> torch.Tensor:
        """[B, 3, S, S] in [-1, 1], for as many."""
        return torch.stack([next(self._crops).cpu() for _ in image]).movedim(-1, 1) * 2 - 1
