"""QD-LoRA: train the low-rank branches of a quantized model until its outputs are its teacher's.

(DESIGN.md section 3.3.) Only adapters, and clipping ratios if asked, learn; integers and scales stay. No labels are
needed: the target is what the full-precision model makes of the same batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..nn.graphs import without_graphs
from ..nn.swap import quant_layers, quantizable
from ..nn.trainable import revert_layers, to_integers, to_trainable, trainable_parameters
from ..quant.batches import Forward, call, device_of, eval_mode, materialize, relative_error, tensors_of
from ..quant.fisher import FISHER_BATCHES, metric_root, output_fisher
from ..quant.quantize import chosen_names
from ..runtime.compiled import original, uncompiled
from ..runtime.inference import without_inference_mode
from ..runtime.memory import kept_memory
from ..types import DistillSettings
from .output_factors import output_factors
from .settings import refuse_settings_of_one_step_restorers, resolved
from .trainer import Trainer


@dataclass(frozen=True)
class TrainerCallbacks:
    """Callbacks of a training run. An exception that one raises stops the work; the model stays as it was.

    In blocks mode every block has a `Trainer` of its own, named for it.
    """

    on_step: Callable[[Trainer], None] | None = None
    on_save: Callable[[Trainer], None] | None = None  # a good moment to save `trainer.state()`
    # Steps done; [N, 3, 3, S, S] in [-1, 1]: degraded, full precision, low-bit.
    on_validation_images: Callable[[int, Tensor], None] | None = None
    resume: Callable[[Trainer], None] | None = None  # may call `trainer.resume`


@dataclass(frozen=True)
class DistillReport:
    """How a run went."""

    losses: tuple[float, ...]  # one a step
    # (steps done, dB to the teacher over what is held out): PSNR of one-step restorers' pictures; of any other model's
    # outputs -10 log10 of `relative_error`, which is of their variance and not of a picture's range.
    scores: tuple[tuple[int, float], ...]


@uncompiled()
@kept_memory()
@without_inference_mode
def distill(
    model: nn.Module,
    teacher: nn.Module,
    batches: Iterable[Any],
    settings: DistillSettings | None = None,
    *,
    val_batches: Iterable[Any] = (),
    forward: Forward | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    callbacks: TrainerCallbacks | None = None,
) -> DistillReport:
    """Train the branches of a quantized `model`, in place, until its outputs are those of `teacher`, its original.

    Takes batches, `forward` and patterns as `quantize` does; the patterns choose the layers that learn. The loss is
    the squared error of every floating-point tensor of the output, over its `output_scale`; a step sees
    `settings.trainer.batch_size` batches. `val_batches` choose the best step; without them the last one stays.
    Settings of latents, prompts, perceptual losses and checkpointing, which one-step restorers alone have, are refused.

    Raises UsageError, ConfigError; interrupted or refused, the model stays as it was.
    """
    settings, callbacks = resolved(settings or DistillSettings(), device_of(model)), callbacks or TrainerCallbacks()
    refuse_settings_of_one_step_restorers(settings)
    teacher, run, batches = original(teacher), forward or call, materialize(batches)
    val_batches = [] if isinstance(val_batches, Sized) and not len(val_batches) else materialize(val_batches)
    low = quant_layers(model)
    if not low:
        raise UsageError("the model to distill is in full precision: quantize it first")
    if quant_layers(teacher):
        raise UsageError("the teacher is quantized too: give the full-precision model")
    learning = chosen_names(list(low), include, exclude)
    if not any(low[name].format.rank for name in learning) and not settings.learn_clips:
        raise UsageError("no chosen layer has a low-rank branch to train: quantize with a rank above 0")

    def targets(given: Sequence[Any]) -> list[list[Tensor]]:
        with eval_mode(teacher):
            return [[t.detach().float().cpu() for t in tensors_of(run(teacher, batch))] for batch in given]

    wanted, val_wanted = targets(batches), targets(val_batches)
    if not any(wanted):
        raise UsageError("the teacher's output holds no floating-point tensor: give a `forward` that returns one")

    def error(batch: Any, exact: Sequence[Tensor]) -> Tensor:
        made = tensors_of(run(model, batch))
        if [t.shape for t in made] != [t.shape for t in exact]:
            raise UsageError("the model's output is not shaped as its teacher's: they are not the same architecture")
        return relative_error(made, exact)

    def loss(indices: Tensor) -> Tensor:
        with autocast(device_of(model), settings):
            return torch.stack([error(batches[i], wanted[i]) for i in indices.tolist()]).mean()

    def validate(_: int) -> float:
        with torch.no_grad():
            errors = [float(error(*pair)) for pair in zip(val_batches, val_wanted, strict=True)]
        return -10 * math.log10(max(sum(errors) / len(errors), 1e-20))

    modes = [module for module in model.modules() if module.training]
    model.eval()  # dropout and batch statistics would be noise in what is learned
    try:
        metrics = branch_metrics(model, teacher, batches, run, settings)
        with trainable_layers(model, settings, learning=learning, metrics=metrics):
            trainer = Trainer(trainable_parameters(model, settings.only_distillation), settings.trainer, len(batches))
            if callbacks.resume:
                callbacks.resume(trainer)
            trainer.run(loss, validate if val_batches else None, callbacks.on_step, callbacks.on_save)
    finally:
        for module in modes:
            module.training = True
    return DistillReport(tuple(trainer.losses), tuple(trainer.scores))


def branch_metrics(
    model: nn.Module, teacher: nn.Module, batches: Sequence[Any], forward: Forward, settings: DistillSettings
) -> dict[str, Tensor]:
    """By names of a quantized model's layers, what of a merged branch counts; none where none is merged.

    They are roots of the Fisher information of the teacher's outputs, over the factors of the model's own.
    """
    if not settings.merge_rank:
        return {}
    layers, low, roots = quantizable(teacher), quant_layers(model), dict[str, Tensor]()
    for name, matrix in output_fisher(teacher, batches[:FISHER_BATCHES], layers, forward).items():
        if name in low and torch.Size(low[name].shape).numel() == layers[name].weight.numel():
            root, factors = metric_root(matrix), output_factors(low[name], layers[name]).cpu()
            roots[name] = root / factors.view(-1, *[1] * (root.ndim - 1))
    return roots


@contextmanager
def trainable_layers(
    model: nn.Module,
    settings: DistillSettings,
    within: str = "",
    learning: set[str] | None = None,
    metrics: Mapping[str, Tensor] | None = None,
) -> Iterator[None]:
    """While it lasts, low-bit layers are trainable; afterwards integers again, or, failed, the very layers from before.

    See `to_trainable`, `to_integers`. What else the model has takes no gradients meanwhile.
    """
    before, flags = quant_layers(model), {p: p.requires_grad for p in model.parameters()}
    try:
        to_trainable(model, settings.rank, settings.learn_clips, settings.trainer.seed, within, learning)
        with torch.enable_grad(), without_graphs():  # which would keep what validation computed before a step
            yield
        to_integers(model, settings.merge_rank, metrics)
    except BaseException:
        revert_layers(model, before)
        raise
    finally:
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)


def autocast(device: torch.device, settings: DistillSettings) -> AbstractContextManager[Any]:
    """The precision that the settings train in."""
    if settings.precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, getattr(torch, settings.precision))
