"""The value of an FR_MODEL socket: a restorer managed by the host's memory manager."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from . import host

if TYPE_CHECKING:
    from ..quantface_core.restorer import RestorerModel


class _Resident(torch.nn.Module):
    """The module that the host's memory manager moves; it sets `device`, which a restorer derives from its weights."""

    def __init__(self, restorer: RestorerModel) -> None:
        super().__init__()
        self.restorer = restorer
        self.device = restorer.device


class FRModel:
    """A restorer with its name, on the compute device only while it is needed there."""

    def __init__(self, name: str, restorer: RestorerModel, notes: Mapping[str, str] | None = None) -> None:
        """`notes` say how it was made, and are saved with it."""
        self.name, self.notes = name, dict(notes or {})
        restorer.to(host.offload_device())  # where the host assumes that a model is until it loads it
        self.patcher = host.managed(_Resident(restorer))

    @property
    def restorer(self) -> RestorerModel:
        """The restorer, on whichever device it is."""
        restorer: RestorerModel = self.patcher.model.restorer
        return restorer

    def ready(self, faces: int = 1, batch_size: int = 0) -> RestorerModel:
        """The restorer on the compute device, with room to restore this many faces; `batch_size`: at once, 0 = the
        device's fastest.
        """
        from ..quantface_core.stages.batches import batch_memory

        needed = batch_memory(self.restorer, host.compute_device(), faces, batch_size)
        host.load_onto_device([self.patcher], needed)
        return self.restorer


def load_together(*models: FRModel) -> None:
    """Load models onto the compute device, all of them at the same time, with room for one face."""
    from ..quantface_core.stages.batches import batch_memory

    device = host.compute_device()
    host.load_onto_device([m.patcher for m in models], max(batch_memory(m.restorer, device) for m in models))
