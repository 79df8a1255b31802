"""Allocate bits to the layers of any model: calibrate, measure, and solve for a budget (DESIGN.md section 3.4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from ..runtime.compiled import uncompiled
from ..types import BitPlan, Budget, QuantConfig, Sensitivity
from .batches import Forward, Progress, materialize
from .bit_program import check_budget
from .bit_program import describe as describe_plan
from .bit_program import solve as solve_plan
from .bit_program import summarize as summarize_plan
from .fisher import FISHER_BATCHES
from .observe import calibrate
from .quantize import check_config, plan_formats
from .sensitivity import PROBE_BITS, measure_layers

__all__ = ["allocate", "describe_plan", "measure_sensitivity", "solve_plan", "summarize_plan"]


@uncompiled()
def measure_sensitivity(
    model: nn.Module,
    batches: Iterable[Any],
    config: QuantConfig | None = None,
    *,
    forward: Forward | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Sensitivity:
    """What the widths of each layer's weights and activations do to the model's output, for `solve_plan` at any budget.

    Takes what `quantize` takes; the config's own widths do not count. Every layer is tried alone, with a run of the
    model over all batches each: a few small ones do. Bytes are those of the tensors in a file that keeps every dtype,
    as `save_quantized` does unless asked. `progress` counts thousandths. The model stays as it is. Raises UsageError,
    ConfigError.
    """
    batches = materialize(batches)
    config = QuantConfig() if config is None else config
    check_config(config)
    config = replace(config, weight_bits=PROBE_BITS, activation_bits=PROBE_BITS)
    formats = plan_formats(model, config, None, include, exclude)
    statistics = calibrate(model, batches, forward, fisher_batches=FISHER_BATCHES * config.wants_fisher)
    return measure_layers(model, statistics, batches, formats, config, forward=forward, progress=progress)


def allocate(
    model: nn.Module,
    batches: Iterable[Any],
    budget: Budget,
    config: QuantConfig | None = None,
    *,
    forward: Forward | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> BitPlan:
    """The plan of least expected error of the model's output within a budget, for `quantize(..., plan=)`.

    `solve_plan` of `measure_sensitivity`, which takes all the time: keep what it gives for a second budget. Raises
    UsageError, ConfigError; QuantFaceError without PuLP.
    """
    check_budget(budget)  # before anything is measured
    measured = measure_sensitivity(
        model, batches, config, forward=forward, include=include, exclude=exclude, progress=progress
    )
    return solve_plan(measured, budget)
