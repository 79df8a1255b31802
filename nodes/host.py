"""The interface to ComfyUI: folders, devices, memory, progress. Only `host_video` knows the host besides.

Host names are looked up at each use, because the host replaces some of them at run time.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io

if TYPE_CHECKING:
    import numpy as np
    from comfy.model_patcher import ModelPatcher
    from comfy_execution.graph_utils import ExecutionBlocker
    from numpy.typing import NDArray
    from PIL.Image import Image

    from ..quantface_core.pipelines.callbacks import PipelineCallbacks, StageProgress

FOLDER = "quantface"  # of the host's models folder
ORIGINALS = "originals"  # in it: what models are built from
OTHERS = "facerestore_models"  # where other packs keep GFPGAN, RestoreFormer and CodeFormer
CATEGORY = "QuantFace"
FRModelSocket = io.Custom("FR_MODEL")
FRPlanSocket = io.Custom("FR_PLAN")
BoundingBoxSocket = io.Custom("BOUNDING_BOX")  # the host's own; older ones have none
SegsSocket = io.Custom("SEGS")  # Impact Pack's
BoxesSocket = io.Custom("BOUNDING_BOX,SEGS")
CropsSocket = io.Custom("FACE_CROPS")


def advanced(socket: io.Input) -> io.Input:
    """Mark an input as advanced: newer hosts show it on request, older ones always."""
    return with_options(socket, advanced=True)


def with_options(socket: io.Input, **options: object) -> io.Input:
    """Add options for the page that some hosts' schemas have no argument for."""
    socket.extra_dict = {**(getattr(socket, "extra_dict", None) or {}), **options}
    return socket


def schema(**fields: Any) -> io.Schema:
    """Build a schema in our category, without fields that an older host does not know."""
    known = {field.name for field in dataclasses.fields(io.Schema)}
    return io.Schema(category=CATEGORY, **{name: value for name, value in fields.items() if name in known})


def register_folder() -> None:
    """Register models/quantface and the folder of other packs' face restorers; downloads go into ours."""
    import folder_paths

    folder = Path(folder_paths.models_dir) / FOLDER
    with suppress(OSError):  # bundled models need none
        folder.mkdir(parents=True, exist_ok=True)
    # Set in extra_model_paths.yaml: the user's folder comes first.
    chosen = FOLDER in folder_paths.folder_names_and_paths
    folder_paths.add_model_folder_path(FOLDER, str(folder), is_default=not chosen)
    paths, _ = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, {".safetensors", ".pth"})
    folder_paths.add_model_folder_path(OTHERS, str(Path(folder_paths.models_dir) / OTHERS))
    os.environ.setdefault("QUANTFACE_MODELS_DIR", paths[0])


def model_files() -> list[str]:
    """Model files, by their names relative to the models folders, without those still being written.

    Face restorers in the other packs' folder follow, prefixed with `facerestore_models/`.
    """
    import folder_paths

    names = {name: Path(name).parts for name in folder_paths.get_filename_list(FOLDER)}
    ours = [n for n, parts in names.items() if parts[0] != ORIGINALS and not any(p.startswith(".") for p in parts)]
    others = [f"{OTHERS}/{name}" for name in folder_paths.get_filename_list(OTHERS)]
    return [name for name in (*ours, *others) if _holds_restorer(name)]


def _holds_restorer(name: str) -> bool:
    """Whether a file may be one of ours or is a published restorer: these folders hold other files too."""
    from ..quantface_core.io.face_restorers import architecture_in

    if name.endswith(".safetensors") and not name.startswith(f"{OTHERS}/"):
        return True
    path = model_file(name)
    return path is not None and architecture_in(path) is not None


def model_file(name: str) -> Path | None:
    """The path of a name from `model_files`; None if the file is gone or the name is unknown."""
    import folder_paths

    other = name.removeprefix(f"{OTHERS}/")
    path = folder_paths.get_full_path(FOLDER, name) if other == name else folder_paths.get_full_path(OTHERS, other)
    return Path(path) if path else None


def target_file(name: str) -> Path:
    """The path to which a model of this name is saved."""
    import folder_paths

    return Path(folder_paths.get_folder_paths(FOLDER)[0]) / f"{name}.safetensors"


def runs_folder() -> Path:
    """Where stopped training runs are kept, hidden in the models folder."""
    import folder_paths

    return Path(folder_paths.get_folder_paths(FOLDER)[0]) / ".runs"


def input_folder(name: str) -> Path:
    """A folder given by its path, or by its name in the host's input folder."""
    import folder_paths

    with suppress(RuntimeError):  # ~ of an unknown user
        name = str(Path(name).expanduser())
    return Path(folder_paths.get_input_directory()) / name


def require_valid(answer: bool | str) -> None:
    """Raise UsageError unless a node's `validate_inputs` returned True: the host calls it for typed values only, not
    for linked ones. It marks every input that `validate_inputs` names, so each node's names only those it is about.
    """
    from ..quantface_core.errors import UsageError

    if answer is not True:
        raise UsageError(str(answer))


def managed(module: torch.nn.Module) -> ModelPatcher:
    """Put a module, which is on the offload device, under the host's memory manager."""
    import comfy.model_patcher as patchers

    # Not CoreModelPatcher, which may be the dynamic-VRAM one: that uploads all buffers again before every run.
    return patchers.ModelPatcher(module, load_device=compute_device(), offload_device=offload_device())


def load_onto_device(patchers: Sequence[ModelPatcher], working_memory: int) -> None:
    """Load managed modules onto the compute device, all of them at the same time, with this many bytes to spare."""
    import comfy.model_management as management

    management.load_models_gpu(list(patchers), memory_required=working_memory, force_full_load=True)


def compute_dtype(precision: str) -> torch.dtype | None:
    """`auto`: bfloat16 where the host would use it on this GPU, else float32; on a CPU None, the library's choice."""
    import comfy.model_management as management

    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    device = compute_device()
    if device.type == "cpu":
        return None
    return torch.bfloat16 if device.type == "cuda" and management.should_use_bf16(device) else torch.float32


def compute_device() -> torch.device:
    """The device on which the host runs models."""
    import comfy.model_management as management

    device: torch.device = management.get_torch_device()
    return device


def offload_device() -> torch.device:
    """The device on which the host keeps models that are not in use."""
    import comfy.model_management as management

    device: torch.device = management.unet_offload_device()
    return device


def stop_if_cancelled() -> None:
    """Raise the host's own exception (a BaseException, so that no handler swallows it) if the user has cancelled."""
    import comfy.model_management as management

    management.throw_exception_if_processing_interrupted()


def nothing(why: str | None = None) -> ExecutionBlocker:
    """An output without a value: nodes connected to it are skipped, with an error if there is a reason `why`."""
    from comfy_execution.graph_utils import ExecutionBlocker

    return ExecutionBlocker(why)


class Progress:
    """The node's progress bar, with previews; stops when the user cancels."""

    def __init__(self) -> None:
        import comfy.utils

        self._bar = comfy.utils.ProgressBar(1)
        self._place = 0, 1

    def __call__(self, done: int, total: int, preview: NDArray[np.uint8] | None = None, preview_side: int = 0) -> None:
        """`preview`: an image [H, W, 3] shown on the node, its longer side at most `preview_side`; 0 = full size."""
        stop_if_cancelled()
        self._place = done, max(1, total)
        self._bar.update_absolute(*self._place, None if preview is None else _preview(preview, preview_side))

    def callbacks(
        self, shares: Mapping[str, tuple[float, float]] | None = None, preview_side: int = 0
    ) -> PipelineCallbacks:
        """Callbacks for a pipeline. A stage in `shares` covers that range of the bar, 0 to 1; any other all of it.

        `preview_side` is as for the bar itself.
        """
        from ..quantface_core.pipelines.callbacks import PipelineCallbacks

        def progress(step: StageProgress) -> None:
            if shares and step.stage in shares:
                self.part(*shares[step.stage])(step.done, step.total)
            else:
                self(step.done, step.total)

        return PipelineCallbacks(
            progress=progress,
            preview=lambda pixels: self(*self._place, pixels, preview_side),
            notify=lambda text: logging.info("QuantFace: %s", text),
            check_cancelled=stop_if_cancelled,
        )

    def part(self, start: float, end: float) -> Callable[[int, int], None]:
        """A callback (done, total) for a stage that covers this range of the bar, 0 to 1."""

        def report(done: int, total: int) -> None:
            self(round(1000 * (start + (end - start) * done / max(1, total))), 1000)

        return report


def _preview(pixels: NDArray[np.uint8], side: int) -> tuple[str, Image, int]:
    from PIL.Image import fromarray

    picture = fromarray(pixels)
    return "JPEG", picture, side or max(picture.size)


def to_host(images: torch.Tensor) -> torch.Tensor:
    """Move results to the device on which the host keeps images between nodes."""
    import comfy.model_management as management

    return images.to(management.intermediate_device())
