"""ComfyUI's side: folders, devices, memory, progress. The only file that knows them.

Its names are looked up when they are used: the host replaces some of them while it runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io

if TYPE_CHECKING:
    from ..quantface_core import OneStepRestorer

FOLDER = "quantface"  # of the host's models folder
CATEGORY = "QuantFace"
FRModelSocket = io.Custom("FR_MODEL")


def schema(**fields: Any) -> io.Schema:
    """A schema of our category, without the fields that an older host does not know."""
    known = {field.name for field in dataclasses.fields(io.Schema)}
    return io.Schema(category=CATEGORY, **{name: value for name, value in fields.items() if name in known})


def register_folder() -> None:
    """Make models/quantface known, for safetensors files only."""
    import folder_paths

    folder = Path(folder_paths.models_dir) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    folder_paths.add_model_folder_path(FOLDER, str(folder), is_default=True)
    paths, _ = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, {".safetensors"})


def model_files() -> list[str]:
    """Files in the models folders, by their names there."""
    import folder_paths

    return list(folder_paths.get_filename_list(FOLDER))


def model_file(name: str) -> Path | None:
    """The file of a name that `model_files` gave; None when it is gone or is no such name."""
    import folder_paths

    path = folder_paths.get_full_path(FOLDER, name)
    return Path(path) if path else None


def target_file(name: str) -> Path:
    """Where a model of a name is saved."""
    import folder_paths

    return Path(folder_paths.get_folder_paths(FOLDER)[0]) / f"{name}.safetensors"


class _Resident(torch.nn.Module):
    """What the host's memory manager moves; it sets `device`, which a restorer derives from its weights."""

    def __init__(self, restorer: OneStepRestorer) -> None:
        super().__init__()
        self.restorer = restorer
        self.device = restorer.device


class FRModel:
    """The value of an FR_MODEL socket: a restorer in the care of the host's memory manager."""

    def __init__(self, name: str, restorer: OneStepRestorer) -> None:
        import comfy.model_management as management
        import comfy.model_patcher as patchers

        self.name = name
        patcher = getattr(patchers, "CoreModelPatcher", patchers.ModelPatcher)
        load, offload = management.get_torch_device(), management.unet_offload_device()
        self.patcher = patcher(_Resident(restorer), load_device=load, offload_device=offload)

    @property
    def restorer(self) -> OneStepRestorer:
        """The restorer, where it is."""
        restorer: OneStepRestorer = self.patcher.model.restorer
        return restorer

    def ready(self) -> OneStepRestorer:
        """The restorer, on the device that computes."""
        import comfy.model_management as management

        management.load_models_gpu([self.patcher], force_full_load=True)
        return self.restorer


def compute_dtype(precision: str) -> torch.dtype:
    """`auto`: bfloat16 where the host would use it on this GPU, else float32."""
    import comfy.model_management as management

    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    device = management.get_torch_device()
    return torch.bfloat16 if device.type == "cuda" and management.should_use_bf16(device) else torch.float32


def compute_device() -> torch.device:
    import comfy.model_management as management

    device: torch.device = management.get_torch_device()
    return device


def stop_if_cancelled() -> None:
    """Raises the host's own exception (no Exception: nobody may swallow it) when the user pressed cancel."""
    import comfy.model_management as management

    management.throw_exception_if_processing_interrupted()


def progress(total: int) -> Callable[[int, int], None]:
    """A callback (done, in all) that moves the node's progress bar and stops when the user cancels."""
    import comfy.utils

    bar = comfy.utils.ProgressBar(max(1, total))

    def report(done: int, in_all: int) -> None:
        stop_if_cancelled()
        bar.update_absolute(done, max(1, in_all))

    return report


def to_host(images: torch.Tensor) -> torch.Tensor:
    """Results to where the host keeps pictures between nodes."""
    import comfy.model_management as management

    return images.to(management.intermediate_device())
