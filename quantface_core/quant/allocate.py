"""Allocate bit widths to any model's layers: calibrate, measure, solve for a budget (docs/method.md, section 5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from ..runtime.compiled import uncompiled
from ..types import BitPlan, Budget, Progress, QuantConfig, Sensitivity, silent
from .batches import Forward, materialize
from .bit_program import solve_plan
from .budgets import check_budget
from .fisher import FISHER_BATCHES
from .observe import calibrate
from .quantize import check_config, check_model, plan_formats
from .sensitivity import PROBE_BITS, measure_layers


@uncompiled
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
    """Measure how each layer's weight and activation widths affect the model's output, for `solve_plan` at any budget.

    Takes the arguments of `quantize`; the config's own widths are ignored. Each layer is quantized alone and the model
    run over all batches once per layer, so use a few small batches; where a forward draws torch's random numbers, each
    batch has its own seed. Byte counts are of the tensors in a file that keeps every dtype, the default of
    `save_quantized`. `progress` counts in thousandths. The model is left unchanged. Raises UsageError, ConfigError.
    """
    batches = materialize(batches)
    config = QuantConfig() if config is None else config
    check_model(model)
    check_config(config)
    config = replace(config, weight_bits=PROBE_BITS, activation_bits=PROBE_BITS)
    formats = plan_formats(model, config, None, include, exclude)
    statistics = calibrate(model, batches, forward, fisher_batches=FISHER_BATCHES * config.wants_fisher)
    return measure_layers(model, statistics, batches, formats, config, forward=forward, progress=progress or silent)


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
    """Return the plan with the least expected output error within a budget, for `quantize(..., plan=)`.

    This is `solve_plan` on the result of `measure_sensitivity`, which takes nearly all the time: to try several
    budgets, measure once and solve for each. Raises UsageError, ConfigError; QuantFaceError without PuLP.
    """
    check_budget(budget)  # before anything is measured
    measured = measure_sensitivity(
        model, batches, config, forward=forward, include=include, exclude=exclude, progress=progress
    )
    return solve_plan(measured, budget)
