"""The one model in memory: loaded when a face needs it, kept for the next image."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from . import host

if TYPE_CHECKING:
    import torch

    from quantface_core.restorer import RestorerModel

_lock = threading.RLock()
_cached: tuple[tuple[str, int, int, torch.dtype | None], RestorerModel] | None = None


@contextmanager
def restorer(path: Path, device: torch.device, faces: int = 1) -> Iterator[RestorerModel]:
    """The file's restorer on a device, held exclusively, with room for this many faces. Raises ModelError."""
    from quantface_core.stages.batches import batch_memory

    with _lock:
        model = _loaded(path, device)
        there = _is_on(model, device)
        host.make_room(batch_memory(model, device, faces) + (0 if there else path.stat().st_size), device)
        if not there:  # moving, even to where it is, would pack its integers again
            try:
                model.to(device)
            except BaseException:  # out of memory half-way: a model on two devices is unusable
                drop()
                raise
        try:
            yield model
        finally:
            if host.unloads() and device.type != "cpu":
                model.to("cpu")
                host.empty_cache()


def drop() -> None:
    """Unload the model."""
    global _cached
    with _lock:
        _cached = None
    host.empty_cache()


def _loaded(path: Path, device: torch.device) -> RestorerModel:
    from quantface_core import load_restorer

    global _cached
    stat = path.stat()
    dtype = _dtype(device)  # a GPU's may be one that the CPU emulates
    key = (str(path), stat.st_mtime_ns, stat.st_size, dtype)
    if _cached is None or _cached[0] != key:
        _cached = None  # before the next: two at once may not fit
        with host.loading():
            model = load_restorer(path, "cpu", dtype)
        _cached = (key, model)
    return _cached[1]


def _is_on(model: RestorerModel, device: torch.device) -> bool:
    """A device without an index is the current one."""
    return model.device.type == device.type and device.index in (None, model.device.index)


def _dtype(device: torch.device) -> torch.dtype | None:
    """The dtype outside integers: None (the library chooses) on a CPU, else the GPU's fastest."""
    if device.type == "cpu":
        return None
    from quantface_core.kernels.dispatch import fast_dtype

    return fast_dtype(device)
