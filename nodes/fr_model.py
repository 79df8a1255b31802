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
        """The restorer on the compute device, with room for these faces, of which it restores so many at once; 0 = the
        device's fastest batch size.
        """
        from ..quantface_core.stages.batches import default_batch_size

        at_once = batch_size or default_batch_size(self.restorer.image_size, host.compute_device())
        load_together(self, faces=min(faces, at_once))
        return self.restorer

    def working_memory(self, faces: int) -> int:
        """Bytes that restoring so many faces at once takes, beside the weights."""
        graphs = getattr(self.restorer, "graphs", None)
        # CUDA graphs hold one more face's activations; those that exist hold them already.
        captures = graphs is not None and not graphs.held and host.compute_device().type == "cuda"
        return self.restorer.working_memory * (faces + captures)


def load_together(*models: FRModel, faces: int = 1) -> None:
    """Load models onto the compute device, all of them at the same time."""
    host.load_onto_device([m.patcher for m in models], max(m.working_memory(faces) for m in models))
