"""A batch of images, processed one at a time: transparency, masks, backgrounds and the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from .pictures import alpha_of, as_masks, as_pictures, check_count, from_pixels, merged, of_frame, to_pixels, with_alpha
from .report import Report

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..quantface_core import RestoreOptions
    from ..quantface_core.pipelines.callbacks import PipelineCallbacks
    from ..quantface_core.restorer import Restorer
    from ..quantface_core.types import Face, Pixels

_DARK = (
    "mask is black all over, as Load Image makes it for an image without transparency: nothing may change. "
    "Disconnect it, or paint where faces may change"
)


class ImageBatch:
    """A node's batch: its input images, and its results, image by image."""

    def __init__(
        self,
        image: torch.Tensor,
        mask: torch.Tensor | None,
        background: torch.Tensor | None,
        done: str,
        upscale: int = 1,
    ) -> None:
        """`done` is the report's word for a changed face.

        Raises ImageError for tensors that are not images or masks, or a background of other proportions; UsageError
        for a mask or background that has neither one entry nor one per image, or a background with upscale above 1.
        """
        from ..quantface_core.stages.restore import check_background

        self.image, self.mask = as_pictures(image), as_masks(mask)
        self.background = None if background is None else as_pictures(background)
        for name, given in (("mask", self.mask), ("background", self.background)):
            if given is not None:
                check_count(name, len(given), len(self.image))
        if self.background is not None:  # before all frames are searched for faces
            check_background(_size(self.image), _size(self.background), upscale)
        self._is_photos_size = upscale == 1 and background is None  # the result
        alphas = alpha_of(background), alpha_of(image)
        self.alpha = alphas[1] if alphas[0] is None else alphas[0]
        self.count = len(self.image)
        # Images in which nothing may change: no faces are detected in them.
        self.dark = [self.mask is not None and not (of_frame(self.mask, i) > 0).any() for i in range(self.count)]
        self._made: dict[str, torch.Tensor] = {}
        self.crops: list[NDArray[np.float32]] = []
        self._tried = 0  # faces, of all images
        self._left: list[Face] = []  # those left as they were because no gain is expected
        self.report = Report(done)
        if all(self.dark):
            self.report.note(_DARK)

    def restore(
        self,
        index: int,
        faces: Sequence[Face],
        restorer: Restorer,
        options: RestoreOptions,
        callbacks: PipelineCallbacks | None = None,
    ) -> torch.Tensor:
        """Restore the faces of the image at `index`; return it as [H, W, 3 or 4] and store it with its mask, crops and
        report.
        """
        from ..quantface_core.faces.changed import changed_faces
        from ..quantface_core.pipelines.restore_picture import PictureRequest, restore_picture
        from ..quantface_core.stages.outcome import describe_change, is_unchanged

        frame, faces = self.image[index], () if self.dark[index] else faces
        behind = None if self.background is None else of_frame(self.background, index)
        within = None if self.mask is None else of_frame(self.mask, index)
        pixels, beneath = to_pixels(frame), None if behind is None else to_pixels(behind)
        result = restore_picture(PictureRequest(pixels, restorer, faces, options, beneath), callbacks)
        base = frame if behind is None else behind
        under: Pixels = pixels if beneath is None else beneath
        if options.upscale > 1:  # enlarged as if it had no face
            under = restore_picture(PictureRequest(pixels, restorer, (), options)).pixels
            base = from_pixels(under)
        picture, area = merged(result.pixels, under, base, result.mask, within)
        tried = {face.position: result.faces[face.position] for face in result.restored}
        changed = changed_faces(base.cpu().numpy(), picture.numpy(), tried, pixels.shape[:2])
        words = {}
        self._tried += len(tried)
        if options.strength == "auto":
            done = {f.position: (f.applied_strength, f.removed_artifacts) for f in result.restored}
            left = {n for n, (strength, removed) in done.items() if is_unchanged(strength, removed)}
            reported = {n: done[n] for n in done if n in left or n in changed}
            words = {n: describe_change(strength, True, removed) for n, (strength, removed) in reported.items()}
            changed = tuple(n for n in changed if n not in left)
            self._left += [tried[n] for n in left]
        if self.dark[index]:
            self.report.left_out("its mask is black")
        else:
            self.report.picture(result.faces, tuple(tried), changed, words)
        if within is not None and result.restored and not area.any():
            self.report.note("mask: no face in its white area")
        self._keep("changed", index, area)
        self.crops += [face.restored_crop for face in result.restored]
        alpha = None if self.alpha is None else of_frame(self.alpha, index)
        return self._keep("pictures", index, with_alpha(picture, alpha))

    def _keep(self, name: str, index: int, made: torch.Tensor) -> torch.Tensor:
        """Store a frame's result in the batch, allocated at the first frame so that a film is not held twice."""
        if self.count == 1:
            self._made[name] = made[None]
        elif name not in self._made:
            self._made[name] = torch.empty(self.count, *made.shape)
        if self.count > 1:
            self._made[name][index] = made
        return self._made[name][index]

    @property
    def no_gain(self) -> str:
        """What to say if there were faces to restore, and every one was left as it was because no gain is expected."""
        from ..quantface_core.stages.outcome import SMALL_FACE

        if not 0 < self._tried == len(self._left):
            return ""
        is_small = self._is_photos_size and any(face.size < SMALL_FACE for face in self._left)
        enlarging = ", or upscale to 2 or 4 to see more of small faces" if is_small else ""
        return f"no face was changed, as no gain is expected: set blend to strength to restore anyway{enlarging}"

    @property
    def pictures(self) -> torch.Tensor:
        """The results, [B, H, W, 3 or 4]."""
        return self._made["pictures"]

    @property
    def changed(self) -> torch.Tensor:
        """Where results may differ from their inputs, [B, H, W] in 0 to 1."""
        return self._made["changed"]


def _size(frames: torch.Tensor) -> tuple[int, int]:
    """(width, height) of frames [N, H, W, 3]."""
    return frames.shape[2], frames.shape[1]
