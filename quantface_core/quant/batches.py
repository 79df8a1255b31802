"""Feed any model: batches of tensors, of arguments, of keywords, or of anything that a `forward` knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..nn.modes import device_of

Forward = Callable[[nn.Module, Any], Any]
"""Called with (model, batch); returns the model's output. For models that `call` cannot feed."""


def call(model: nn.Module, batch: Any) -> Any:
    """`model(batch)`: a tuple or list holds its arguments, a mapping its keywords.

    Tensors are copied to its device, and where they are on it: the model may change its input in place.
    """
    batch = copied(batch, device_of(model))
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple | list) else model(batch)


def copied(batch: Any, device: torch.device) -> Any:
    """A batch with its tensors, however nested, copied to a device; containers become plain ones of their kind."""
    if isinstance(batch, Tensor):
        return batch.to(device, copy=True)
    if isinstance(batch, Mapping):
        return {key: copied(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        values = [copied(value, device) for value in batch]
        if hasattr(batch, "_make"):
            return batch._make(values)  # a named tuple; other subclasses may have any constructor
        return tuple(values) if isinstance(batch, tuple) else values
    return batch


def listed(batches: Iterable[Any]) -> list[Any]:
    """The batches as a list, to iterate more than once. Raises UsageError for a single tensor, mapping or string."""
    if isinstance(batches, Tensor | Mapping | str):
        one = "tensor" if isinstance(batches, Tensor) else type(batches).__name__
        raise UsageError(f"expected several batches, got one {one}: give [batch], or images.split(1)")
    return list(batches)


def materialize(batches: Iterable[Any]) -> list[Any]:
    """`listed`; raises UsageError also when there are no batches."""
    kept = listed(batches)
    if not kept:
        raise UsageError("give at least one batch")
    return kept
