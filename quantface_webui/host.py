"""The interface to the WebUI: folders, devices, memory, progress, errors.

Modules with parts in its page import those themselves. Host names are looked up at each use, because the host reloads
some of its modules.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

FOLDER = "quantface"  # of the host's models folder
_ORIGINALS = "originals"  # in it: what models are built from
# Where the host keeps face restorers of its own: folders, and the options that name others.
_OTHERS = {"GFPGAN": "gfpgan_models_path", "Codeformer": "codeformer_models_path"}
_TASK = "quantface"  # what `--use-cpu` calls us
_MANAGERS = ("backend.memory_management", "ldm_patched.modules.model_management")  # Forge's, reForge's


class Interrupted(Exception):  # noqa: N818
    """The user pressed Interrupt or Skip."""


def models_folders() -> list[Path]:
    """The folders of model files; fetched and built ones go into the first."""
    from modules import paths, shared

    chosen = getattr(shared.cmd_opts, "quantface_models_path", None) or os.environ.get("QUANTFACE_MODELS_DIR")
    usual = Path(paths.models_path) / FOLDER
    return list(dict.fromkeys([Path(chosen).expanduser(), usual] if chosen else [usual]))


def use_models_folder() -> None:
    """Let the library, and the processes it starts, keep models in the host's folder."""
    os.environ["QUANTFACE_MODELS_DIR"] = str(models_folders()[0])


def model_file(name: str) -> Path | None:
    """The file of a name in the models folders, never outside them; None if there is none."""
    relative = Path(name)
    if relative.anchor or relative.drive or ".." in relative.parts:
        return None
    first, others = relative.parts[:1], _other_folders()
    if relative.suffix == ".pth" and len(relative.parts) > 1 and first[0] in others:
        path = others[first[0]].joinpath(*relative.parts[1:])
        return path if _is_file(path) else None
    if relative.suffix != ".safetensors":
        return None
    return next((path for folder in models_folders() if _is_file(path := folder / relative)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name longer than a folder can hold
        return False


def _other_folders() -> dict[str, Path]:
    from modules import paths, shared

    chosen = {name: getattr(shared.cmd_opts, option, None) for name, option in _OTHERS.items()}
    return {name: Path(path or Path(paths.models_path) / name) for name, path in chosen.items()}


def model_files() -> list[str]:
    """The files in the models folders, without those still being written; then the host's own face restorers."""
    from quantface_core.io.face_restorers import architecture_in

    found = [path.relative_to(folder) for folder in models_folders() for path in sorted(folder.rglob("*.safetensors"))]
    shown = [name for name in found if name.parts[0] != _ORIGINALS and not any(p.startswith(".") for p in name.parts)]
    others = [
        f"{name}/{path.relative_to(folder).as_posix()}"
        for name, folder in _other_folders().items()
        for path in sorted(folder.rglob("*.pth"))
        if architecture_in(path)
    ]
    return [*dict.fromkeys(name.as_posix() for name in shown), *others]


def restores_faces() -> bool:
    """Whether the host restores the faces of generated images: SD.Next does not."""
    try:
        from modules import face_restoration  # noqa: F401
    except ImportError:
        return False
    return True


def device() -> torch.device:
    """Where faces are restored: `--use-cpu quantface` (or all) leaves the GPU to others; SD.Next has one device."""
    from modules import devices

    choose = getattr(devices, "get_device_for", lambda task: devices.device)
    chosen: torch.device = choose(_TASK)
    return chosen


def _manager() -> Any:
    """Forge's memory manager, if the host has imported one under a known name, else None."""
    return next((sys.modules[name] for name in _MANAGERS if name in sys.modules), None)


def make_room(needed: int, where: torch.device) -> None:
    """Free this many bytes on a GPU, if the host manages its memory."""
    manager = _manager()
    if manager and where.type != "cpu":
        manager.free_memory(needed, where)


@contextmanager
def diffusion_model_aside() -> Iterator[None]:
    """Inside, the diffusion model is off the GPU."""
    from modules import sd_models

    if manager := _manager():  # brings it back when it is needed
        manager.unload_all_models()
        yield
        return
    model = sd_models.model_data.sd_model
    if model is None or not hasattr(sd_models, "send_model_to_cpu"):  # SD.Next moves its models by itself
        yield
        return
    sd_models.send_model_to_cpu(model)
    try:
        yield
    finally:
        empty_cache()
        sd_models.send_model_to_device(model)


def loading() -> AbstractContextManager[Any]:
    """Held while a model is loaded: AUTOMATIC1111's WebUI replaces parts of torch while loading its own."""
    from modules import sd_models

    lock = getattr(sd_models.model_data, "lock", None)
    return lock if lock is not None else nullcontext()


def empty_cache() -> None:
    """Collect garbage, and return the GPU's unused memory."""
    from modules import devices

    gc.collect()
    devices.torch_gc()


def unloads() -> bool:
    """Whether the user wants face restorers off the GPU between images."""
    from modules import shared

    return bool(getattr(shared.opts, "face_restoration_unload", False))


def stop_if_interrupted() -> None:
    """Raises Interrupted; `stopping_generation` lets the current image finish."""
    from modules import shared

    if shared.state.interrupted or shared.state.skipped:
        raise Interrupted


def stop_if_stopping() -> None:
    """Raises Interrupted also when the user wants no further image: for work before an image starts."""
    from modules import shared

    stop_if_interrupted()
    if getattr(shared.state, "stopping_generation", False):
        raise Interrupted


class Progress:
    """The page's progress bar, within the job that the host counts; restored on exit."""

    def __enter__(self) -> Progress:
        from modules import shared

        state = shared.state
        self._before = state.job_no, state.sampling_step, state.sampling_steps, state.textinfo
        # The host counts a job as done when it turns to it: the bar would be full from the start.
        state.job_no = max(0, state.job_no - 1)
        return self

    def __call__(self, done: int, total: int, text: str) -> None:
        from modules import shared

        shared.state.sampling_step, shared.state.sampling_steps = done, total
        shared.state.textinfo = text

    def __exit__(self, *_: object) -> None:
        from modules import shared

        state = shared.state
        state.job_no, state.sampling_step, state.sampling_steps, state.textinfo = self._before


def report(message: str, exc_info: bool = False) -> None:
    """Report an error on the console and in the host's list of errors."""
    from modules import errors

    tell = errors.report if hasattr(errors, "report") else errors.log.error  # SD.Next has the latter
    tell(f"QuantFace: {message}", exc_info=exc_info)


def skip_picture() -> None:
    """Make the Extras tab save nothing for this image: it is not what the user asked for.

    SD.Next would save it, and forget that it was stopped: it ends its run only on an error, which is raised.
    """
    from modules import errors, shared

    shared.state.skipped = True
    if shared.state.interrupted and not restores_faces():
        raise getattr(errors, "ValidationError", Interrupted)("interrupted")  # it reports the former in one line


def option(name: str) -> Any:
    """A value of our settings page."""
    from modules import shared

    return getattr(shared.opts, f"quantface_{name}", None)
