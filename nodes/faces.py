"""The faces that a model is calibrated, measured and trained on: the inputs, and what becomes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from comfy_api.latest import io

from . import host
from .pictures import as_pictures, to_pixels

if TYPE_CHECKING:
    from ..quantface_core.pipelines.faces import FaceSource

_BUNDLED = 32  # degradations of the bundled portrait, at most


def inputs(count: int) -> list[io.Input]:
    """The four inputs that name faces."""
    return [
        io.Image.Input("faces", optional=True,
                       tooltip="Aligned faces, clean ones with degrade on; or give a folder."),
        io.String.Input("folder", default="",
                        tooltip="Pictures instead of the faces input: a path, or a folder in ComfyUI's input folder. "
                        "With neither, the bundled portrait is used, to try things out. New pictures are noticed where "
                        "the folder is typed in, not where another node gives it."),
        io.Int.Input("count", default=count, min=1, max=100_000, tooltip="Use at most so many pictures."),
        io.Boolean.Input("find_faces", default=False,
                         tooltip="The pictures are photos: find every face in them and align it."),
        io.Boolean.Input("degrade", default=True,
                         tooltip="The faces are clean: blur and compress them first. Off when they are as bad as those "
                         "to restore."),
    ]  # fmt: skip


def validate(folder: str | None) -> bool | str:
    """For `validate_inputs`: True, or what is wrong. What another node gives is None before that node ran."""
    if folder and folder.strip() and not host.input_folder(folder.strip()).is_dir():
        return f"folder {folder.strip()!r}: there is no such folder, neither as a path nor in ComfyUI's input folder"
    return True


def fingerprint(folder: str | None) -> str:
    """What a folder holds, by names, sizes and times: its pictures may change between runs."""
    if not folder or not folder.strip():
        return ""
    files = sorted(path for path in host.input_folder(folder.strip()).glob("*") if path.is_file())
    return repr([(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files])


def source(faces: torch.Tensor | None, folder: str, count: int, find_faces: bool, degrade: bool) -> FaceSource:
    """What those inputs name. Raises UsageError, ImageError."""
    from ..quantface_core.pipelines.faces import FaceSource

    if faces is not None:
        pictures = ((f"picture {index}", to_pixels(frame)) for index, frame in enumerate(as_pictures(faces)))
        return FaceSource(count, pictures=pictures, find_faces=find_faces, degrade=degrade)
    host.require_valid(validate(folder))
    if not folder.strip():
        return FaceSource(min(count, _BUNDLED))
    return FaceSource(count, folder=host.input_folder(folder.strip()), find_faces=find_faces, degrade=degrade)
