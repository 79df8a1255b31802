"""Distill a restorer: QD-LoRA whose target is what the full-precision restorer makes of the same degraded faces.

(DESIGN.md section 3.3.) The loss is of pictures, restored latents and the embedder's positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..metrics import full_reference, psnr
from ..nn.swap import quant_layers
from ..nn.trainable import revert_layers, trainable_parameters
from ..quant.batches import call, tensors_of
from ..restorer import OneStepRestorer, RestorerModel
from ..runtime.inference import without_inference_mode
from ..runtime.memory import kept_memory
from ..train.distill import DistillReport, TrainerCallbacks, autocast, branch_metrics, trainable_layers
from ..train.distill import distill as distill_any
from ..train.settings import resolved
from ..train.trainer import Trainer
from ..types import DistillSettings
from .block_targets import TeacherActivations, block_names
from .quantize import images_at_once

__all__ = ["DistillReport", "TrainerCallbacks", "distill", "distill_blocks", "resolved"]

_CHUNK = 4  # images at once where nothing is trained


@kept_memory()
@without_inference_mode
def distill(
    restorer: RestorerModel,
    teacher: RestorerModel,
    images: Tensor,
    val_images: Tensor,
    settings: DistillSettings | None = None,
    callbacks: TrainerCallbacks | None = None,
) -> DistillReport:
    """Train the branches of `restorer` end to end, in place, on degraded faces [N, 3, S, S] in [-1, 1].

    `val_images` are other faces, to validate and to choose the best step with; an empty tensor: the last step.
    The teacher's pictures and latents are kept as float16, 1.2 MB a face at 256 pixels, 4.8 MB at 512. Other families
    learn from all that their `outputs` are, kept as float32. Raises UsageError; interrupted or refused, the restorer
    stays as it was.
    """
    settings, callbacks = resolved(settings or DistillSettings(), restorer.device), callbacks or TrainerCallbacks()
    _check_pair(restorer, teacher)
    if not isinstance(restorer, OneStepRestorer) or not isinstance(teacher, OneStepRestorer):
        return _distill_outputs(restorer, teacher, images, val_images, settings, callbacks)
    targets, val_targets = _targets(teacher, images), _targets(teacher, val_images)
    perceptual = full_reference(settings.perceptual)[0] if settings.perceptual else None

    def loss(indices: Tensor) -> Tensor:
        picture, latent, positions = (t[indices].to(restorer.device).float() for t in targets)
        with autocast(restorer.device, settings):
            made_picture, made_latent, made_positions = _outputs(restorer, images[indices].to(restorer.device))
        total = (made_picture - picture).square().mean()
        total = total + settings.latent_weight * (made_latent - latent).square().mean()
        off = (made_positions - positions).square().mean() / positions.square().mean().clamp_min(1e-12)
        total = total + settings.prompt_weight * off
        if perceptual is None:
            return total
        score = perceptual((made_picture / 2 + 0.5).clamp(0, 1), picture / 2 + 0.5).mean()
        loss = score if full_reference(settings.perceptual)[1] else 1 - score
        return total + settings.perceptual_weight * loss

    def validate(step: int) -> float:
        restorer.eval()
        with torch.no_grad():
            made = torch.cat([restorer(x.to(restorer.device)).cpu() for x in val_images.split(_CHUNK)])
        restorer.train()
        reference = val_targets[0].float().clamp(-1, 1)
        if callbacks.on_validation_images:
            callbacks.on_validation_images(step, torch.stack([val_images, reference, made], 1))
        return float(psnr(made / 2 + 0.5, reference / 2 + 0.5).mean())

    with _trainable_layers(restorer, settings, metrics=_branch_metrics(restorer, teacher, images, settings)):
        trainer = Trainer(trainable_parameters(restorer, settings.only_distillation), settings.trainer, len(images))
        if callbacks.resume:
            callbacks.resume(trainer)
        trainer.run(loss, validate if len(val_images) else None, callbacks.on_step, callbacks.on_save)
    return DistillReport(tuple(trainer.losses), tuple(trainer.scores))


@kept_memory()
@without_inference_mode
def distill_blocks(
    restorer: RestorerModel,
    teacher: RestorerModel,
    images: Tensor,
    settings: DistillSettings | None = None,
    callbacks: TrainerCallbacks | None = None,
) -> dict[str, DistillReport]:
    """Train block after block, each on what its teacher's block reads and writes, for small memory.

    The settings' steps are each block's. No more than one block holds gradients, and of the teacher runs the
    part that the block is in, up to its end. No block depends on another's training, so a run that goes on
    resumes each on its own: a finished one takes no step. Returns a report a block, by name; else as `distill`.
    """
    settings, callbacks = resolved(settings or DistillSettings(), restorer.device), callbacks or TrainerCallbacks()
    _check_pair(restorer, teacher)
    if not isinstance(restorer, OneStepRestorer) or not isinstance(teacher, OneStepRestorer):
        raise UsageError(f"{restorer.config.name} is trained end to end: blocks are those of one-step models")
    before, targets_of, reports = quant_layers(restorer), TeacherActivations(teacher, images), {}
    metrics = _branch_metrics(restorer, teacher, images, settings)
    try:
        for name in block_names(restorer):
            report = _distill_block(restorer, targets_of, name, settings, callbacks, metrics)
            if report:
                reports[name] = report
        if not reports:
            raise UsageError("no layer has a low-rank branch to train: quantize with a rank above 0")
    except BaseException:
        revert_layers(restorer, before)  # the finished blocks too
        raise
    return reports


def _distill_outputs(
    restorer: RestorerModel,
    teacher: RestorerModel,
    images: Tensor,
    val_images: Tensor,
    settings: DistillSettings,
    callbacks: TrainerCallbacks,
) -> DistillReport:
    """As any model is distilled: each output's squared error over its variance. Raises UsageError."""

    def outputs(model: Any, batch: Tensor) -> Any:
        return model.outputs(batch.to(model.device))

    batches, held = images.split(1), val_images.split(1) if len(val_images) else ()
    return distill_any(restorer, teacher, batches, settings, val_batches=held, forward=outputs, callbacks=callbacks)


def _distill_block(
    restorer: OneStepRestorer,
    targets_of: TeacherActivations,
    name: str,
    settings: DistillSettings,
    callbacks: TrainerCallbacks,
    metrics: Mapping[str, Tensor],
) -> DistillReport | None:
    """Train one block; None when nothing in it learns."""
    block = restorer.get_submodule(name)

    def loss(indices: Tensor) -> Tensor:
        given, keywords, wanted = targets_of(name, indices)
        with autocast(restorer.device, settings):
            made = block(*given, **keywords)
        pairs = zip(tensors_of(made), tensors_of(wanted), strict=True)
        terms = [(a.float() - b).square().mean() / b.square().mean().clamp_min(1e-12) for a, b in pairs]
        return torch.stack(terms).mean()

    with _trainable_layers(restorer, settings, name, metrics):
        parameters = trainable_parameters(restorer, settings.only_distillation)
        if not parameters:
            return None
        trainer = Trainer(parameters, settings.trainer, len(targets_of.images), name)
        if callbacks.resume:
            callbacks.resume(trainer)
        trainer.run(loss, None, callbacks.on_step, callbacks.on_save)
    return DistillReport(tuple(trainer.losses), ())


@contextmanager
def _trainable_layers(
    restorer: OneStepRestorer,
    settings: DistillSettings,
    within: str = "",
    metrics: Mapping[str, Tensor] | None = None,
) -> Iterator[None]:
    """While it lasts, the restorer's layers are trainable; see `trainable_layers`."""
    restorer.train()
    saving = restorer.gradient_checkpointing() if settings.checkpointing else nullcontext()
    try:
        with saving, trainable_layers(restorer, settings, f"{within}." if within else "", metrics=metrics):
            yield
    finally:
        restorer.eval()


def _branch_metrics(
    restorer: OneStepRestorer, teacher: OneStepRestorer, images: Tensor, settings: DistillSettings
) -> dict[str, Tensor]:
    """See `branch_metrics`."""
    seen = images_at_once(teacher, images).to(teacher.device)
    with teacher.gradient_checkpointing():
        return branch_metrics(restorer, teacher, seen.split(1), call, settings)


def _check_pair(restorer: RestorerModel, teacher: RestorerModel) -> None:
    if not quant_layers(restorer):
        raise UsageError("the model to distill is in full precision: calibrate it first")
    if restorer.config.to_dict() != teacher.config.to_dict():
        raise UsageError(f"a {restorer.config.name} cannot learn from a {teacher.config.name}: other architecture")
    if quant_layers(teacher):
        raise UsageError("the teacher is quantized too: give the full-precision model")


def _outputs(restorer: OneStepRestorer, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(picture, restored latent, embedder positions) of images at the native size, float32."""
    positions = restorer.embedder.positions(images)
    latent = restorer.predict(restorer.encode(images), restorer.embedder.prompt(positions))
    return restorer.decode(latent).float(), latent.code, positions.float()


@torch.no_grad()
def _targets(teacher: OneStepRestorer, images: Tensor) -> tuple[Tensor, ...]:
    if len(images) == 0:
        return (images,)
    made = [[t.cpu().half() for t in _outputs(teacher, x.to(teacher.device))] for x in images.split(_CHUNK)]
    return tuple(torch.cat(parts) for parts in zip(*made, strict=True))
