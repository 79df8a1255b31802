"""Restore the faces of one image: what the Extras tab, Restore faces and the API all call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from quantface_core.errors import ModelError, QuantFaceError
from quantface_core.io.face_restorers import has_fidelity
from quantface_core.io.model_menu import choice_path, menu_choices, strip_mark
from quantface_core.pipelines.callbacks import PipelineCallbacks, StageProgress
from quantface_core.runtime.memory import is_out_of_memory
from quantface_core.stages.outcome import is_unchanged

from . import host, model_cache
from .settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from quantface_core import Face, FaceDetector, Restoration, RestoreOptions
    from quantface_core.restorer import RestorerModel

    Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class RestoreResult:
    """The result for one image."""

    pixels: Pixels  # RGB [H, W, 3]
    faces: tuple[Face, ...]  # those of the minimum size and confidence, from the left
    restored: tuple[int, ...]  # positions of those that were restored, though not necessarily changed
    unchanged: int  # of these: how many look as they did
    doubtful: int = 0  # how many others were found, but with less than the minimum confidence
    small: int = 0  # how many of sufficient confidence were smaller than the minimum size


def choices() -> list[str]:
    """What the menus offer: models by name, marked with what choosing one involves, and files in the models folder."""
    return menu_choices(host.model_file, host.model_files())


def choice(name: str) -> str:
    """A model as the menu has it now: its mark may have changed since it was chosen."""
    return next((known for known in choices() if strip_mark(known) == strip_mark(name)), name)


def offers_fidelity(name: str) -> bool:
    """Whether a choice of the menu is a model with a fidelity setting."""
    return has_fidelity(host.model_file(strip_mark(name)) if name else None)


def applicable(settings: Settings) -> Settings:
    """Settings without what the model does not have: a hidden control keeps what was chosen for another model."""
    return settings if offers_fidelity(settings.model) else replace(settings, fidelity=Settings.fidelity)


def restore(pixels: Pixels, settings: Settings, background: Pixels | None = None) -> RestoreResult:
    """Restore an RGB image [H, W, 3] uint8, with `applicable` settings; `background` is the same image enlarged.

    Raises QuantFaceError, host.Interrupted.
    """
    file = choice_path(settings.model, host.model_file)  # first: a wrong name is an error even without faces
    before = pixels if background is None else background
    if settings.visibility == 0:
        return RestoreResult(before, (), (), 0)
    with host.Progress() as progress:
        if file is None:
            file = _fetched(strip_mark(settings.model), progress)
        found = _detector()(pixels)
        options = settings.options()
        confident = [face for face in found if face.score >= options.min_confidence]
        wanted = sum(face.size >= options.min_size for face in confident)
        if not wanted:
            return RestoreResult(before, (), (), 0, len(found) - len(confident), len(confident))

        def work(model: RestorerModel) -> Restoration:
            return _faces(model, pixels, found, options, background, progress)

        try:
            result = _with_memory(file, wanted, work)
        except ModelError as error:  # images keep it and the API answers it: without this machine's folders
            raise ModelError(str(error).replace(str(file), strip_mark(settings.model))) from error
    restored = tuple(face.position for face in result.restored)
    after = cast("Pixels", result.pixels)  # of the image's depth
    unchanged = sum(is_unchanged(face.applied_strength, face.removed_artifacts) for face in result.restored)
    return RestoreResult(_blended(before, after, settings.visibility), result.faces, restored, unchanged)


def _fetched(name: str, progress: host.Progress) -> Path:
    """Fetch or build a model, with progress; Interrupt ends it, and the next call resumes."""
    from quantface_core.pipelines.child import fetch_in_child

    def show(step: StageProgress) -> None:
        progress(step.done, step.total, f"QuantFace: {name}: {step.stage}")

    return fetch_in_child(name, PipelineCallbacks(progress=show, check_cancelled=host.stop_if_stopping))


@cache
def _detector() -> FaceDetector:
    from quantface_core import FaceDetector, detector_path

    return FaceDetector(detector_path(), host.stop_if_interrupted)


def _faces(
    model: RestorerModel,
    pixels: Pixels,
    found: tuple[Face, ...],
    options: RestoreOptions,
    background: Pixels | None,
    progress: host.Progress,
) -> Restoration:
    from quantface_core.pipelines.restore_picture import PictureRequest, restore_picture

    def show(step: StageProgress) -> None:
        progress(step.done, step.total, f"QuantFace: face {min(step.done + 1, step.total)} of {step.total}")

    callbacks = PipelineCallbacks(progress=show, check_cancelled=host.stop_if_interrupted)
    return restore_picture(PictureRequest(pixels, model, found, options, background), callbacks)


def _with_memory(file: Path, faces: int, work: Callable[[RestorerModel], Restoration]) -> Restoration:
    """Run on the host's device; on out of memory, again with the diffusion model off the GPU; then on the CPU."""

    def on(device: torch.device) -> Restoration:
        with model_cache.restorer(file, device, faces) as model:
            return work(model)

    device = host.device()
    try:
        return on(device)
    except (QuantFaceError, RuntimeError) as error:
        if device.type == "cpu" or not is_out_of_memory(error):
            raise
    host.empty_cache()
    with host.diffusion_model_aside():
        try:
            return on(device)
        except (QuantFaceError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
    host.empty_cache()
    host.report(f"not enough memory on {device}: this image is restored on the CPU")
    return on(torch.device("cpu"))


def _blended(before: Pixels, after: Pixels, visibility: float) -> Any:
    if visibility == 1:
        return after
    import numpy as np

    mixed = before + (after.astype(np.float32) - before) * visibility
    return np.rint(mixed).astype(np.uint8)
