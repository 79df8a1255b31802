"""The error of a model's outputs: their floating-point tensors, and the squared error relative to their variance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..nn.modes import eval_mode
from ..nn.swap import check_module
from ..runtime.random_state import seeded
from .batches import Forward, call, materialize

_CONSTANT = 1e-6  # variance over mean square at which an output counts as constant: no error is measured against it


def tensors_of(output: Any) -> list[Tensor]:
    """The floating-point tensors of an output, however nested in tuples, mappings, dataclasses or diffusers'
    distributions.
    """
    if isinstance(output, Tensor):
        return [output] if output.is_floating_point() else []
    if isinstance(output, Mapping):
        return tensors_of(list(output.values()))
    if isinstance(output, tuple | list):
        return [tensor for part in output for tensor in tensors_of(part)]
    if is_dataclass(output):
        return tensors_of([getattr(output, field.name) for field in fields(output)])
    parameters = getattr(output, "parameters", None)  # of a DiagonalGaussianDistribution: mean and log variance
    return [parameters] if isinstance(parameters, Tensor) else []


def output_scale(output: Tensor) -> Tensor:
    """The scale that an output's mean squared error is divided by, a scalar float32: the output's variance.

    The mean square for a single value or a constant, which have no variance; 0 = leave it out, as it is empty or zero.
    """
    if not output.numel():
        return torch.zeros((), dtype=torch.float32, device=output.device)
    exact = output.detach().float()
    variance, power = exact.var(correction=0), exact.square().mean()
    return torch.where(variance > _CONSTANT * power, variance, power)


def relative_error(made: Sequence[Tensor], exact: Sequence[Tensor]) -> Tensor:
    """The mean over outputs of the squared error over `output_scale`, a scalar float32; 0 where all are left out."""
    pairs = [(a.float(), b.to(a.device)) for a, b in zip(made, exact, strict=True)]
    errors = [(a - b).square().mean() / scale for a, b in pairs if (scale := output_scale(b))]
    # A zero that can still be differentiated.
    return torch.stack(errors).mean() if errors else torch.stack([(0 * a).sum() for a, _ in pairs]).sum()


def measure_error(
    model: nn.Module, original: nn.Module, batches: Iterable[Any], *, forward: Forward | None = None
) -> float:
    """The squared error of a model's outputs over the variance of its original's, the mean over batches; 0 = equal.

    -10 log10 of it is in dB, as the scores of `distill` are. Takes batches and `forward` as `quantize` does, best other
    ones than it was calibrated on; where a forward draws torch's random numbers, both models draw the same. Raises
    UsageError for what is no module, and where outputs differ in shape, or hold no floating-point tensor.
    """
    check_module(model)
    check_module(original)
    run, errors = forward or call, []

    def outputs(network: nn.Module, index: int, batch: Any) -> list[Tensor]:
        with eval_mode(network), seeded(index):
            return tensors_of(run(network, batch))

    for index, batch in enumerate(materialize(batches)):
        exact, made = (outputs(network, index, batch) for network in (original, model))
        if not exact:
            raise UsageError("the original's output holds no floating-point tensor: give a `forward` that returns one")
        if [t.shape for t in made] != [t.shape for t in exact]:
            raise UsageError("output shapes differ from the original's: the models are not of the same architecture")
        errors.append(float(relative_error(made, exact)))
    return sum(errors) / len(errors)
