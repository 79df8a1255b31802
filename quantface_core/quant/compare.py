"""How far a quantized model's outputs are from its original's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from ..errors import UsageError
from ..nn.modes import eval_mode
from ..nn.swap import check_module
from ..runtime.random_state import seeded
from .batches import Forward, call, materialize
from .output_error import relative_error, tensors_of


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
