"""Restore the faces of one image in memory: what every front end does, wherever its images come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..faces.clean_network import bundled_cleaner
from ..options import RestoreOptions
from ..restorer import Restorer
from ..stages.restore import restore_aligned, restore_photo
from ..types import Face, Pixels, Restoration
from .callbacks import PipelineCallbacks


@dataclass(frozen=True, eq=False)
class PictureRequest:
    """An image, its faces, and how they are restored."""

    pixels: Pixels  # RGB [H, W, 3]
    restorer: Restorer  # on the device that computes
    faces: Sequence[Face] | None  # found or given; the options choose among them. None = it is one aligned crop
    options: RestoreOptions = field(default_factory=RestoreOptions)
    background: Pixels | None = None  # the same image enlarged by other means, onto which faces are pasted
    keep_crops: bool = True  # in the result's `restored`: 6 MB a face at 512x512


def restore_picture(request: PictureRequest, callbacks: PipelineCallbacks | None = None) -> Restoration:
    """Restore and paste; progress counts faces. Raises ImageError, UsageError, QuantFaceError."""
    callbacks = callbacks or PipelineCallbacks()
    report = callbacks.stage("restore", "face")

    def progress(done: int, total: int) -> None:
        callbacks.check()
        report(done, total)

    with callbacks.cancellable(request.restorer, bundled_cleaner()):
        if request.faces is None:
            return restore_aligned(
                request.pixels, request.restorer, request.options, progress, keep_crops=request.keep_crops
            )
        return restore_photo(
            request.pixels,
            request.restorer,
            request.faces,
            request.options,
            progress,
            request.background,
            keep_crops=request.keep_crops,
        )
