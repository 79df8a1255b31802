"""Aligned crops through a restorer, in batches that fit its device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..errors import QuantFaceError, UsageError
from ..options import RestoreOptions
from ..restorer.interface import Restorer, RestorerModel
from ..runtime.device import multiprocessors
from ..runtime.memory import explain_out_of_memory, is_out_of_memory, kept_memory
from ..types import Crop, Progress, silent

_BATCH, _SMALL = 4, 256  # faces per batch; side in pixels up to which that is faster on a CPU, measured
_FILLED, _LARGE = 60, 512  # multiprocessors of a GPU that a single face of this side keeps busy


def restore_crops(
    crops: Sequence[Crop],
    restorer: Restorer,
    options: RestoreOptions,
    progress: Progress = silent,
    seeds: Sequence[int] | None = None,
) -> list[Crop]:
    """Run the restorer on aligned crops [S, S, 3] in 0 to 1; returns crops alike. Batches are halved on out of memory.

    With `seeds`, one per crop, latents are sampled; without, crop i uses the options' seed + i, if they have a seed.
    Raises UsageError for a fidelity that the restorer does not support and for output of another shape than its input,
    QuantFaceError, with advice, when even a single face does not fit into memory or the model's output is not finite.
    """
    if options.fidelity is not None and getattr(restorer, "fidelity", None) is None:
        raise UsageError("this model has no fidelity setting, only CodeFormer has: leave it unset")
    # Passed only when set: most restorers have no such argument.
    settings: dict[str, Any] = {} if options.fidelity is None else {"fidelity": options.fidelity}
    restored: list[Crop] = []
    batch_size = options.batch_size or default_batch_size(restorer.image_size, restorer.device)
    if seeds is None and options.seed is not None:
        # A face's seed depends on its position, so that the noise does not depend on the batch size.
        seeds = range(options.seed, options.seed + len(crops))
    is_freed = False  # whether memory was freed since the last batch that fitted
    while len(restored) < len(crops):
        start = len(restored)
        progress(start, len(crops))
        if getattr(restorer, "batches_itself", False):
            batch, settings = crops[start:], {"batch_size": batch_size}
        else:
            batch = crops[start : start + batch_size]
        at_once = min(batch_size, len(batch))
        try:
            drawn = None if seeds is None else seeds[start : start + len(batch)]
            restored += _run(batch, restorer, drawn, settings)
            is_freed = False
            continue
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if at_once == 1 and is_freed:
                raise QuantFaceError(f"a single face does not fit: {explain_out_of_memory(error)}") from error
        # Only now that the error is gone: it references the feature maps. A single face is tried again, because a model
        # drops what it has cached when memory runs out.
        torch.cuda.empty_cache()
        is_freed, batch_size = True, max(1, at_once // 2)
    if crops:
        progress(len(crops), len(crops))
    return restored


def default_batch_size(size: int, device: torch.device) -> int:
    """The batch size for faces of side `size` pixels, beyond which the device gains no throughput.

    A CPU, or a GPU with few multiprocessors, is saturated by one large face; larger batches would only take memory
    from other models.
    """
    if device.type == "cpu":
        return max(1, _BATCH * _SMALL**2 // size**2)
    return 1 if size >= _LARGE and multiprocessors(device) < _FILLED else _BATCH


def batch_memory(restorer: RestorerModel, device: torch.device, faces: int = 1, batch_size: int = 0) -> int:
    """Bytes that `restore_crops` takes on a device for so many faces, besides the weights; `batch_size` as its option.

    CUDA graphs hold another face's activations, which graphs captured earlier hold already.
    """
    at_once = min(faces, batch_size or default_batch_size(restorer.image_size, device))
    captures = restorer.graphs is not None and not restorer.graphs.held and device.type == "cuda"
    return restorer.working_memory * (at_once + captures)


def _run(
    crops: Sequence[Crop], restorer: Restorer, seeds: Sequence[int] | None, settings: Mapping[str, Any]
) -> list[Crop]:
    images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).to(restorer.device) * 2 - 1
    with torch.inference_mode(), kept_memory():
        outputs = restorer(images, seeds, **settings)
    if not isinstance(outputs, torch.Tensor) or outputs.shape != images.shape:  # of somebody's own restorer
        made = list(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        raise UsageError(f"the restorer must return a tensor of its input's shape, {list(images.shape)}, got {made}")
    if not torch.isfinite(outputs).all():
        raise QuantFaceError(
            "the model's output for a face is not finite: use precision float32, or download the model again"
        )
    # An array each: one for all would stay in memory until its last face is composed.
    return [(output.numpy() + 1) / 2 for output in outputs.float().permute(0, 2, 3, 1).cpu()]
