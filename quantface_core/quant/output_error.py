"""The error of a model's outputs: their floating-point tensors, and the squared error relative to their variance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

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
