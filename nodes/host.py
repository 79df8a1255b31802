"""ComfyUI's side: folders, devices, memory, progress. The only file that knows them.

Its names are looked up when they are used: the host replaces some of them while it runs.
"""

from __future__ import annotations

import dataclasses
import gc
import logging
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io

if TYPE_CHECKING:
    import numpy as np
    from comfy_execution.graph_utils import ExecutionBlocker
    from numpy.typing import NDArray
    from PIL.Image import Image

    from ..quantface_core.pipelines.callbacks import PipelineCallbacks, StageProgress
    from ..quantface_core.restorer import RestorerModel

FOLDER = "quantface"  # of the host's models folder
ORIGINALS = "originals"  # in it: what models are built from
OTHERS = "facerestore_models"  # where other packs keep GFPGAN, RestoreFormer and CodeFormer
CATEGORY = "QuantFace"
FRModelSocket = io.Custom("FR_MODEL")
FRPlanSocket = io.Custom("FR_PLAN")
BoxesSocket = io.Custom("BOUNDING_BOX,SEGS")  # the host's own, and Impact Pack's
CropsSocket = io.Custom("FACE_CROPS")


def advanced(socket: io.Input) -> io.Input:
    """An input that newer hosts show on request only; older ones always do."""
    return with_options(socket, advanced=True)


def with_options(socket: io.Input, **options: object) -> io.Input:
    """An input with options for the page that not every host's schema has an argument for."""
    socket.extra_dict = {**(getattr(socket, "extra_dict", None) or {}), **options}
    return socket


def schema(**fields: Any) -> io.Schema:
    """A schema of our category, without the fields that an older host does not know."""
    known = {field.name for field in dataclasses.fields(io.Schema)}
    return io.Schema(category=CATEGORY, **{name: value for name, value in fields.items() if name in known})


def register_folder() -> None:
    """Make models/quantface known, and the folder of other packs' face restorers; what is fetched goes into ours."""
    import folder_paths

    folder = Path(folder_paths.models_dir) / FOLDER
    with suppress(OSError):  # bundled models need none
        folder.mkdir(parents=True, exist_ok=True)
    chosen = FOLDER in folder_paths.folder_names_and_paths  # in extra_model_paths.yaml: the user's comes first
    folder_paths.add_model_folder_path(FOLDER, str(folder), is_default=not chosen)
    paths, _ = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, {".safetensors", ".pth"})
    folder_paths.add_model_folder_path(OTHERS, str(Path(folder_paths.models_dir) / OTHERS))
    os.environ.setdefault("QUANTFACE_MODELS_DIR", paths[0])


def model_files() -> list[str]:
    """Files in the models folders, by their names there; none of those that are still being made.

    Face restorers in the other packs' folder follow, `facerestore_models/` before their names.
    """
    import folder_paths

    names = {name: Path(name).parts for name in folder_paths.get_filename_list(FOLDER)}
    ours = [n for n, parts in names.items() if parts[0] != ORIGINALS and not any(p.startswith(".") for p in parts)]
    others = [f"{OTHERS}/{name}" for name in folder_paths.get_filename_list(OTHERS)]
    return [name for name in (*ours, *others) if _holds_restorer(name)]


def _holds_restorer(name: str) -> bool:
    """Whether a file may be one of ours, or is a published one: other things lie in these folders, too."""
    from ..quantface_core.io.face_restorers import architecture_in

    if name.endswith(".safetensors") and not name.startswith(f"{OTHERS}/"):
        return True
    path = model_file(name)
    return path is not None and architecture_in(path) is not None


def model_file(name: str) -> Path | None:
    """The file of a name that `model_files` gave; None when it is gone or is no such name."""
    import folder_paths

    other = name.removeprefix(f"{OTHERS}/")
    path = folder_paths.get_full_path(FOLDER, name) if other == name else folder_paths.get_full_path(OTHERS, other)
    return Path(path) if path else None


def target_file(name: str) -> Path:
    """Where a model of a name is saved."""
    import folder_paths

    return Path(folder_paths.get_folder_paths(FOLDER)[0]) / f"{name}.safetensors"


def input_folder(name: str) -> Path:
    """A folder given by its path, or by its name in the host's input folder."""
    import folder_paths

    with suppress(RuntimeError):  # ~ of nobody that is known
        name = str(Path(name).expanduser())
    return Path(folder_paths.get_input_directory()) / name


def require_valid(answer: bool | str) -> None:
    """Raise UsageError unless a node's `validate_inputs` says True: the host asks it of typed values only, not of
    those that come from other nodes. It marks every input that `validate_inputs` names: each node's names one.
    """
    from ..quantface_core.errors import UsageError

    if answer is not True:
        raise UsageError(str(answer))


class _Resident(torch.nn.Module):
    """What the host's memory manager moves; it sets `device`, which a restorer derives from its weights."""

    def __init__(self, restorer: RestorerModel) -> None:
        super().__init__()
        self.restorer = restorer
        self.device = restorer.device


class FRModel:
    """The value of an FR_MODEL socket: a restorer in the care of the host's memory manager."""

    def __init__(self, name: str, restorer: RestorerModel, notes: Mapping[str, str] | None = None) -> None:
        """`notes` say how it was made, for the file it may be saved to."""
        import comfy.model_management as management
        import comfy.model_patcher as patchers

        self.name, self.notes = name, dict(notes or {})
        # Not CoreModelPatcher, which may be the one of dynamic VRAM: that uploads all buffers again before every run.
        load, offload = management.get_torch_device(), management.unet_offload_device()
        restorer.to(offload)  # where the host believes a model to be that it has not loaded
        self.patcher = patchers.ModelPatcher(_Resident(restorer), load_device=load, offload_device=offload)

    @property
    def restorer(self) -> RestorerModel:
        """The restorer, where it is."""
        restorer: RestorerModel = self.patcher.model.restorer
        return restorer

    def ready(self, faces: int = 1) -> RestorerModel:
        """The restorer, on the device that computes, with room for so many faces at once; 0 = as many as are quick."""
        from ..quantface_core.stages.batches import default_batch_size

        load_together(self, faces=faces or default_batch_size(self.restorer.image_size, compute_device()))
        return self.restorer


def load_together(*models: FRModel, faces: int = 1) -> None:
    """Bring models to the device that computes, and keep all of them there at once."""
    import comfy.model_management as management

    kept = compute_device().type == "cuda"  # graphs keep one face's maps
    need = max(model.restorer.working_memory for model in models) * (faces + kept)
    management.load_models_gpu([model.patcher for model in models], memory_required=need, force_full_load=True)


def compute_dtype(precision: str) -> torch.dtype | None:
    """`auto`: bfloat16 where the host would use it on this GPU, else float32; on a processor, the library's choice."""
    import comfy.model_management as management

    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    device = management.get_torch_device()
    if device.type == "cpu":
        return None
    return torch.bfloat16 if device.type == "cuda" and management.should_use_bf16(device) else torch.float32


def compute_device() -> torch.device:
    """Where the host runs models."""
    import comfy.model_management as management

    device: torch.device = management.get_torch_device()
    return device


def stop_if_cancelled() -> None:
    """Raises the host's own exception (no Exception: nobody may swallow it) when the user pressed cancel."""
    import comfy.model_management as management

    management.throw_exception_if_processing_interrupted()


def nothing() -> ExecutionBlocker:
    """An output that has no value: nodes that it is connected to are left out, without an error."""
    from comfy_execution.graph_utils import ExecutionBlocker

    return ExecutionBlocker(None)


@contextmanager
def memory_given_back() -> Iterator[None]:
    """While it lasts, freed memory is kept for what comes next; at its end it is given back to the system.

    Also when the work is cut short: the host keeps the error for a while, and with it whatever the functions that it
    went through were holding. Memory that ran out on the GPU becomes the host's own error: it makes room, and says so.
    """
    from ..quantface_core.runtime.memory import kept_memory

    with kept_memory():
        try:
            yield
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)
            gc.collect()
            if isinstance(error.__cause__, torch.OutOfMemoryError):
                raise error.__cause__ from None
            raise


class Progress:
    """The node's progress bar, with previews; stops when the user cancels."""

    def __init__(self) -> None:
        import comfy.utils

        self._bar = comfy.utils.ProgressBar(1)
        self._place = 0, 1

    def __call__(self, done: int, total: int, preview: NDArray[np.uint8] | None = None, preview_side: int = 0) -> None:
        """`preview`: a picture [H, W, 3] shown on the node, no longer than `preview_side`; 0 = as it is."""
        stop_if_cancelled()
        self._place = done, max(1, total)
        self._bar.update_absolute(*self._place, None if preview is None else _preview(preview, preview_side))

    def callbacks(self, shares: Mapping[str, tuple[float, float]] | None = None) -> PipelineCallbacks:
        """What a pipeline is given. Stages take `shares` of the bar, 0 to 1, by name; without, each takes all of it."""
        from ..quantface_core.pipelines.callbacks import PipelineCallbacks

        def progress(step: StageProgress) -> None:
            if shares and step.stage in shares:
                self.part(*shares[step.stage])(step.done, step.total)
            else:
                self(step.done, step.total)

        return PipelineCallbacks(
            progress=progress,
            preview=lambda pixels: self(*self._place, pixels),
            notify=lambda text: logging.info("QuantFace: %s", text),
            check_cancelled=stop_if_cancelled,
        )

    def part(self, start: float, end: float) -> Callable[[int, int], None]:
        """A callback (done, in all) for a stage that takes this share of the bar, 0 to 1."""

        def report(done: int, total: int) -> None:
            self(round(1000 * (start + (end - start) * done / max(1, total))), 1000)

        return report


def _preview(pixels: NDArray[np.uint8], side: int) -> tuple[str, Image, int]:
    from PIL.Image import fromarray

    picture = fromarray(pixels)
    return "JPEG", picture, side or max(picture.size)


def to_host(images: torch.Tensor) -> torch.Tensor:
    """Results to where the host keeps pictures between nodes."""
    import comfy.model_management as management

    return images.to(management.intermediate_device())
