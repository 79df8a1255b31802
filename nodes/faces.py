"""The faces that a model is calibrated, measured and trained on: the inputs, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io

from . import host
from .pictures import as_pictures, to_pixels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LEAST = 32  # pixels; a face found in a picture that is smaller teaches nothing


def inputs(count: int) -> list[Any]:
    """The four inputs that name faces."""
    return [
        io.Image.Input("faces", optional=True,
                       tooltip="Aligned faces, as blurred or noisy as those to restore; or give a folder."),
        io.String.Input("folder", default="",
                        tooltip="Pictures instead of the faces input: a path, or a folder in ComfyUI's input folder. "
                        "With neither, the bundled portrait is used, to try things out."),
        io.Int.Input("count", default=count, min=1, max=100_000, tooltip="Use at most so many pictures."),
        io.Boolean.Input("find_faces", default=False,
                         tooltip="The pictures are photos: find every face in them and align it."),
        io.Boolean.Input("degrade", default=True,
                         tooltip="The faces are clean: blur and compress them first. Off when they are bad already."),
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


def gather(
    size: int, faces: torch.Tensor | None, folder: str, count: int, find_faces: bool, degrade: bool
) -> torch.Tensor:
    """The chosen faces as [N, 3, size, size] float32 in [-1, 1]. Raises UsageError, ImageError."""
    from ..quantface_core.bundled import bundled_faces
    from ..quantface_core.degrade import degrade as degraded
    from ..quantface_core.errors import UsageError
    from ..quantface_core.faces.aligned import as_batch

    if faces is None:
        host.insist(validate(folder))
    if faces is None and not folder.strip():
        return bundled_faces(min(count, 32), size)
    pictures: list[NDArray[np.uint8]] = []
    for name, pixels in _pictures(faces, folder.strip()):
        host.stop_if_cancelled()
        pictures += _aligned(pixels, size) if find_faces else [_whole(name, pixels, size)]
        if len(pictures) >= count:
            break
    if not pictures:
        raise UsageError("no face was found in the pictures: give others, or switch off find_faces")
    chosen = [degraded(p, seed) if degrade else p for seed, p in enumerate(pictures[:count])]
    return as_batch(chosen)


def _pictures(faces: torch.Tensor | None, folder: str) -> Any:
    """(name, RGB pixels uint8) of each picture, one at a time."""
    from ..quantface_core.errors import UsageError
    from ..quantface_core.faces.aligned import to_8_bits
    from ..quantface_core.io.photos import READABLE, read_photo

    if faces is not None:
        for index, frame in enumerate(as_pictures(faces)):
            yield f"picture {index}", to_8_bits(to_pixels(frame))
        return
    paths = [p for p in sorted(host.input_folder(folder).iterdir()) if p.suffix.lower() in READABLE]
    if not paths:
        raise UsageError(f"folder {folder!r} holds no pictures ({', '.join(READABLE)})")
    for path in paths:
        yield Path(path).name, to_8_bits(read_photo(path).pixels)


def _whole(name: str, pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A picture that is one aligned face. Raises ImageError."""
    from ..quantface_core.errors import ImageError
    from ..quantface_core.faces.aligned import aligned_face

    try:
        return aligned_face(name, pixels, size)
    except ImageError as error:
        raise ImageError(f"{error}: switch on find_faces for photos") from None


def _aligned(pixels: NDArray[np.uint8], size: int) -> list[NDArray[np.uint8]]:
    """Every face of a photo, cut out and turned upright."""
    import numpy as np

    from ..quantface_core import FaceDetector, RestoreOptions, detector_path
    from ..quantface_core.faces.align import extract, face_transform
    from ..quantface_core.faces.select import sort_faces

    found = sort_faces(FaceDetector(detector_path())(pixels), RestoreOptions(min_size=_LEAST))
    return [np.rint(extract(pixels, face_transform(face, size), size) * 255).astype(np.uint8) for face in found]
