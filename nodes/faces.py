"""Faces on which a model is calibrated, measured, trained and compared: the inputs of four nodes, and their base."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from comfy_api.latest import io

from . import host
from .pictures import as_pictures, to_pixels

if TYPE_CHECKING:
    from ..quantface_core.pipelines.faces import FaceSource

_BUNDLED = 32  # degradations of the bundled portrait, at most


def face_inputs(count: int) -> list[io.Input]:
    """The inputs that supply faces, which are the arguments of `face_source`; `count` is its input's default."""
    return [
        io.Image.Input("faces", optional=True,
                       tooltip="Aligned faces, clean ones if degrade is on; or name a folder."),
        io.String.Input("folder", default="",
                        tooltip="Images instead of the faces input: a path, or a folder in ComfyUI's input folder. "
                        "With neither, the bundled portrait is used, to try things out. New images are noticed if the "
                        "folder is typed in, not if another node supplies it."),
        io.Int.Input("count", default=count, min=1, max=100_000, tooltip="Use at most this many images."),
        io.Boolean.Input("find_faces", default=False,
                         tooltip="The images are photos: find and align every face in them."),
        io.Boolean.Input("degrade", default=True,
                         tooltip="The faces are clean: degrade them first (blur, noise, fewer pixels, JPEG). Turn off "
                         "if they are already as degraded as those to restore."),
    ]  # fmt: skip


class FacesNode(io.ComfyNode):
    """A node with `face_inputs`: checks their folder, and runs again when its files have changed."""

    @classmethod
    def validate_inputs(cls, folder: str | None = None) -> bool | str:
        """True, or an error message. A linked value is None until its node has run."""
        if folder and folder.strip() and not host.input_folder(folder.strip()).is_dir():
            return f"folder {folder.strip()!r}: no such folder, neither as a path nor in ComfyUI's input folder"
        return True

    @classmethod
    def fingerprint_inputs(cls, folder: str | None = None, **_: object) -> str:
        """A folder's images, by paths, sizes and times: they may change between runs."""
        from ..quantface_core.errors import UsageError
        from ..quantface_core.pipelines.jobs import folder_images

        if not folder or not folder.strip():
            return ""
        try:
            files = folder_images(host.input_folder(folder.strip()))
        except UsageError:  # none: the run says so
            return ""
        return repr([(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files])


def face_source(
    folder: str, count: int, find_faces: bool, degrade: bool, faces: torch.Tensor | None = None
) -> FaceSource:
    """The source of faces that those inputs describe. Raises UsageError, ImageError."""
    from ..quantface_core.pipelines.faces import FaceSource

    if faces is not None:
        pictures = ((f"image {index}", to_pixels(frame)) for index, frame in enumerate(as_pictures(faces)))
        return FaceSource(count, pictures=pictures, find_faces=find_faces, degrade=degrade)
    host.require_valid(FacesNode.validate_inputs(folder))
    if not folder.strip():
        return FaceSource(min(count, _BUNDLED))
    return FaceSource(count, folder=host.input_folder(folder.strip()), find_faces=find_faces, degrade=degrade)
