"""QD-LoRA: train a model's low-rank branches until its outputs match its teacher's (docs/method.md, section 4).

Only branches learn, and clipping ratios if asked; integers and scales are frozen. No labels are needed: the target is
the full-precision model's output on the same batches.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..kernels.balance import per_row
from ..nn.graphs import without_graphs
from ..nn.modes import device_of, evaluating
from ..nn.swap import quant_layers, quantizable
from ..nn.trainable import revert_layers, to_integers, to_trainable, trainable_parameters
from ..quant.batches import Forward, call, listed, materialize
from ..quant.chosen_layers import chosen_names
from ..quant.fisher import FISHER_BATCHES, metric_root, output_fisher
from ..quant.output_error import relative_error, tensors_of
from ..quant.pretrained import update_quantizers
from ..runtime.autocast import without_autocast
from ..runtime.compiled import original, uncompiled
from ..runtime.inference import without_inference_mode
from ..runtime.memory import kept_memory
from ..runtime.random_state import seeded
from ..types import DistillConfig
from .autocast import autocast, mixing_norms, scales_loss
from .fold_factors import fold_factors
from .settings import resolved
from .targets import Targets
from .training import TrainerCallbacks, TrainingReport, train


@uncompiled
@kept_memory()
@without_inference_mode
def distill(
    model: nn.Module,
    teacher: nn.Module,
    batches: Iterable[Any],
    config: DistillConfig | None = None,
    *,
    val_batches: Iterable[Any] = (),
    forward: Forward | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    callbacks: TrainerCallbacks | None = None,
) -> TrainingReport:
    """Train the branches of a quantized `model`, in place, until its outputs match those of `teacher`, its original.

    Takes batches, `forward` and patterns as `quantize` does; the patterns choose the layers that learn. The loss is the
    squared error of every floating-point output tensor over its `output_scale`; a step uses
    `config.trainer.batch_size` batches. `val_batches` select the best step; without them the last one's averaged
    weights are used. The teacher runs on a batch when a step first draws it; its outputs are kept, up to 1 GB. Where a
    forward draws torch's random numbers, each batch has its own seed, in every step.

    Training that diverges ends with the best step validated, and a warning. Raises UsageError, ConfigError, and
    QuantFaceError if it diverges before a step is better than the start; on error or interruption the model stays as
    it was.
    """
    teacher, run, batches, val_batches = original(teacher), forward or call, materialize(batches), listed(val_batches)
    check_pair(model, teacher)
    config = resolved(config or DistillConfig(), device_of(model))
    low = quant_layers(model)
    learning = chosen_names(list(low), include, exclude)
    if not any(low[name].format.rank for name in learning) and not config.learn_clips:
        raise UsageError("no chosen layer has a low-rank branch to train: quantize with a rank above 0")

    given = [*batches, *val_batches]

    def outputs(network: nn.Module, index: int) -> list[Tensor]:
        with seeded(index):  # a forward that draws noise draws the same for both models
            return tensors_of(run(network, given[index]))

    targets_of = Targets(teacher, outputs, len(batches))

    def error(index: int, exact: list[Tensor]) -> Tensor:
        made = outputs(model, index)
        if [t.shape for t in made] != [t.shape for t in exact]:
            raise UsageError("the model's output shapes differ from its teacher's: they are not the same architecture")
        return relative_error(made, exact)

    def loss(indices: Tensor) -> Tensor:
        wanted = {index: targets_of(index) for index in indices.tolist()}  # in the teacher's own precision
        with autocast(device_of(model), config):
            return torch.stack([error(index, wanted[index]) for index in indices.tolist()]).mean()

    def validate(_: int) -> float:
        with torch.no_grad():
            errors = [float(error(index, targets_of(index))) for index in range(len(batches), len(given))]
        return -10 * math.log10(max(sum(errors) / len(errors), 1e-20))

    # Dropout and batch statistics would add noise to the loss.
    with evaluating(model):
        metrics = branch_metrics(model, teacher, batches, run, config)
        with trainable_layers(model, config, learning=learning, metrics=metrics):
            report = train(
                trainable_parameters(model, config.only_distillation),
                config.trainer,
                len(batches),
                loss,
                validate if val_batches else None,
                callbacks,
                scale_loss=scales_loss(model, config),
            )
    if report.warning:
        warnings.warn(report.warning, stacklevel=2)
    return report


def check_pair(model: nn.Module, teacher: nn.Module) -> None:
    """Raise UsageError unless a model to distill is quantized and its teacher is not."""
    if not quant_layers(model):
        raise UsageError("the model to distill is in full precision: quantize it first")
    if quant_layers(teacher):
        raise UsageError("the teacher is quantized too: give the full-precision model")


def branch_metrics(
    model: nn.Module, teacher: nn.Module, batches: Sequence[Any], forward: Forward, config: DistillConfig
) -> dict[str, Tensor]:
    """Roots [O, O] or [O] of the metrics in which merged branches are truncated, by layer name; empty without merging.

    They are roots of the Fisher information of the teacher's outputs, divided by the factors of the model's own outputs
    (`fold_factors`).
    """
    if not config.merge_rank:
        return {}
    layers, low, roots = quantizable(teacher), quant_layers(model), dict[str, Tensor]()
    for name, matrix in output_fisher(teacher, batches[:FISHER_BATCHES], layers, forward).items():
        if name in low and torch.Size(low[name].shape).numel() == layers[name].weight.numel():
            root, factors = metric_root(matrix), fold_factors(low[name], layers[name]).cpu()
            roots[name] = root / per_row(factors, root)
    return roots


@contextmanager
def trainable_layers(
    model: nn.Module,
    config: DistillConfig,
    within: str = "",
    learning: set[str] | None = None,
    metrics: Mapping[str, Tensor] | None = None,
) -> Iterator[None]:
    """Within the block, low-bit layers are trainable; afterwards they hold integers again, or are restored on failure.

    See `to_trainable`, `to_integers`. All other parameters of the model take no gradients meanwhile, and the caller's
    autocast is off: it would keep casts of the weights that are trained.
    """
    before, flags = quant_layers(model), {p: p.requires_grad for p in model.parameters()}
    try:
        with without_autocast(device_of(model)):
            to_trainable(model, config.rank, config.learn_clips, config.trainer.seed, within, learning)
            # Graphs would reuse what validation computed before a step.
            with torch.enable_grad(), without_graphs(), mixing_norms(model, config):
                yield
            to_integers(model, config.merge_rank, metrics)
            update_quantizers(model)
    except BaseException:
        revert_layers(model, before)
        raise
    finally:
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)
