"""What a caller feeds any model with, and how: batches in, the tensors of its output out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError

Forward = Callable[[nn.Module, Any], Any]
"""Called with (model, batch), returns the model's output: for models that `call` does not know how to feed."""
Progress = Callable[[int, int], None]
"""Called with (done, in all); an exception it raises stops the work."""
_CONSTANT = 1e-6  # variance over mean square of what is constant but for a thousandth: an error over it means nothing


def call(model: nn.Module, batch: Any) -> Any:
    """`model(batch)`; a tuple or list is its arguments, a mapping its keywords. Tensors move to its device."""
    batch = moved(batch, device_of(model))
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple | list) else model(batch)


def moved(batch: Any, device: torch.device) -> Any:
    """A batch whose tensors, however nested, are on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: moved(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        values = [moved(value, device) for value in batch]
        return type(batch)(*values) if hasattr(batch, "_fields") else type(batch)(values)
    return batch


def device_of(model: nn.Module) -> torch.device:
    """Where a model's first tensor is: a quantized model may have buffers alone."""
    for tensors in (model.parameters(), model.buffers()):
        for tensor in tensors:
            return tensor.device
    return torch.device("cpu")


def materialize(batches: Iterable[Any]) -> list[Any]:
    """Batches that can be gone through more than once. Raises UsageError when there is none, or one in their place."""
    if isinstance(batches, Tensor | Mapping | str):
        one = "tensor" if isinstance(batches, Tensor) else type(batches).__name__
        raise UsageError(f"batches are several: give [batch], or images.split(1), not one {one}")
    kept = list(batches)
    if not kept:
        raise UsageError("give at least one batch")
    return kept


def tensors_of(output: Any) -> list[Tensor]:
    """The floating-point tensors of an output, which may be nested: tuples, mappings, diffusers' distributions."""
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    if isinstance(output, Mapping):
        return tensors_of(list(output.values()))
    if isinstance(output, tuple | list):
        return [tensor for part in output for tensor in tensors_of(part)]
    parameters = getattr(output, "parameters", None)  # of a DiagonalGaussianDistribution: what it is made of
    return [parameters] if isinstance(parameters, Tensor) else []


def output_scale(output: Tensor) -> Tensor:
    """What an output's mean squared error is measured against, a scalar float32: its variance.

    The mean square of a single number or a constant, which has no variance; 0 = leave the output out: zeros alone, or
    empty.
    """
    if not output.numel():
        return torch.zeros((), dtype=torch.float32, device=output.device)
    exact = output.detach().float()
    variance, power = exact.var(correction=0), exact.square().mean()
    return torch.where(variance > _CONSTANT * power, variance, power)


def relative_error(made: Sequence[Tensor], exact: Sequence[Tensor]) -> Tensor:
    """The mean of outputs' squared errors over their `output_scale`, a scalar float32; 0 where all are left out."""
    pairs = [(a.float(), b.to(a.device)) for a, b in zip(made, exact, strict=True)]
    errors = [(a - b).square().mean() / scale for a, b in pairs if (scale := output_scale(b))]
    # Nothing, that can still be differentiated.
    return torch.stack(errors).mean() if errors else torch.stack([(0 * a).sum() for a, _ in pairs]).sum()


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """While it lasts, the model is in evaluation mode and takes no gradients: the same input, the same output."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
