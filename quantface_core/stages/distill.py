"""Distill a restorer by QD-LoRA: its targets are the full-precision restorer's outputs for the same degraded faces.

(docs/method.md, section 4.) The loss compares output images, restored latents and the embedder's positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..metrics import full_reference, psnr
from ..nn.swap import quant_layers
from ..nn.trainable import revert_layers, trainable_parameters
from ..quant.batches import call
from ..quant.output_error import tensors_of
from ..restorer import OneStepRestorer, RestorerModel
from ..runtime.inference import without_inference_mode
from ..runtime.memory import kept_memory
from ..train.autocast import autocast, scales_loss
from ..train.distill import branch_metrics, check_pair, trainable_layers
from ..train.distill import distill as distill_any
from ..train.settings import resolved
from ..train.training import TrainerCallbacks, TrainingReport, train
from ..types import DistillConfig, RestorerDistillConfig
from .block_targets import TeacherActivations, block_names
from .per_image import PerImage
from .quantize import images_at_once

_ONE_STEP = [f.name for f in fields(RestorerDistillConfig) if f.name not in {g.name for g in fields(DistillConfig)}]
_CHUNK = 4  # images per batch without gradients


@kept_memory()
@without_inference_mode
def distill(
    restorer: RestorerModel,
    teacher: RestorerModel,
    images: Tensor,
    val_images: Tensor,
    config: RestorerDistillConfig | None = None,
    callbacks: TrainerCallbacks | None = None,
) -> TrainingReport:
    """Train the low-rank branches of `restorer` end to end, in place, on degraded faces [N, 3, S, S] in [-1, 1].

    `val_images` [M, 3, S, S] are held-out faces by which the best step is chosen; with an empty tensor the last step is
    taken. The teacher's images, latents and positions are stored as float16: 1.2 MB per face at 256 pixels, 4.8 MB at
    512. Families other than one-step learn from all of their `outputs`, stored as float32. Raises UsageError for
    a config or models that do not fit, QuantFaceError when training diverges before a step is better than the start
    (afterwards it ends with the best step, see the report); on any exception the restorer is left
    unchanged.
    """
    config, callbacks = resolved(config or RestorerDistillConfig(), restorer.device), callbacks or TrainerCallbacks()
    _check_pair(restorer, teacher)
    if not isinstance(restorer, OneStepRestorer) or not isinstance(teacher, OneStepRestorer):
        return _distill_outputs(restorer, teacher, images, val_images, config, callbacks)
    targets_of, val_targets_of = _targets(teacher, images), _targets(teacher, val_images)
    perceptual = full_reference(config.perceptual) if config.perceptual else None

    def loss(indices: Tensor) -> Tensor:
        picture, latent, positions = (t.to(restorer.device).float() for t in targets_of(indices))
        with autocast(restorer.device, config):
            made_picture, made_latent, made_positions = _outputs(restorer, images[indices].to(restorer.device))
        total = (made_picture - picture).square().mean()
        total = total + config.latent_weight * (made_latent - latent).square().mean()
        off = (made_positions - positions).square().mean() / positions.square().mean().clamp_min(1e-12)
        total = total + config.prompt_weight * off
        if perceptual is None:
            return total
        score = perceptual((made_picture / 2 + 0.5).clamp(0, 1), picture / 2 + 0.5).mean()
        return total + config.perceptual_weight * perceptual.loss(score)

    def validate(step: int) -> float:
        restorer.eval()
        with torch.no_grad():
            made = torch.cat([restorer(x.to(restorer.device)).cpu() for x in val_images.split(_CHUNK)])
        restorer.train()
        reference = val_targets_of(torch.arange(len(val_images)))[0].float().clamp(-1, 1)
        if callbacks.on_validation_images:
            callbacks.on_validation_images(step, torch.stack([val_images, reference, made], 1))
        return float(psnr(made / 2 + 0.5, reference / 2 + 0.5).mean())

    with _trainable_layers(restorer, config, metrics=_branch_metrics(restorer, teacher, images, config)):
        return train(
            trainable_parameters(restorer, config.only_distillation),
            config.trainer,
            len(images),
            loss,
            validate if len(val_images) else None,
            callbacks,
            scale_loss=scales_loss(restorer, config),
        )


@kept_memory()
@without_inference_mode
def distill_blocks(
    restorer: RestorerModel,
    teacher: RestorerModel,
    images: Tensor,
    config: RestorerDistillConfig | None = None,
    callbacks: TrainerCallbacks | None = None,
) -> dict[str, TrainingReport]:
    """Train block by block, each on the inputs and outputs of the teacher's block, which takes little memory.

    Every block is trained for the config's steps. Only one block has gradients at a time, and the teacher only runs
    the part that contains the block, up to its end. Blocks are trained independently, so that a resumed run resumes
    each on its own; finished ones take no more steps. Returns the blocks' reports by name; otherwise as `distill`.
    """
    config, callbacks = resolved(config or RestorerDistillConfig(), restorer.device), callbacks or TrainerCallbacks()
    _check_pair(restorer, teacher)
    if not isinstance(restorer, OneStepRestorer) or not isinstance(teacher, OneStepRestorer):
        raise UsageError(f"{restorer.config.name} is not a one-step model: train it end to end, not block by block")
    before, targets_of, reports = quant_layers(restorer), TeacherActivations(teacher, images), {}
    metrics = _branch_metrics(restorer, teacher, images, config)
    try:
        for name in block_names(restorer):
            report = _distill_block(restorer, targets_of, name, config, callbacks, metrics)
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
    config: RestorerDistillConfig,
    callbacks: TrainerCallbacks,
) -> TrainingReport:
    """Distill like any model: the loss is each output's squared error over its variance. Raises UsageError."""

    def outputs(model: Any, batch: Tensor) -> Any:
        return model.outputs(batch.to(model.device))

    given = [name for name in _ONE_STEP if getattr(config, name) != getattr(RestorerDistillConfig, name)]
    if given:
        raise UsageError(f"{', '.join(given)}: only for one-step restorers, leave at the defaults")
    batches, held = images.split(1), val_images.split(1) if len(val_images) else ()
    return distill_any(restorer, teacher, batches, config, val_batches=held, forward=outputs, callbacks=callbacks)


def _distill_block(
    restorer: OneStepRestorer,
    targets_of: TeacherActivations,
    name: str,
    config: RestorerDistillConfig,
    callbacks: TrainerCallbacks,
    metrics: Mapping[str, Tensor],
) -> TrainingReport | None:
    """Train one block; returns None when it has nothing to train."""
    block = restorer.get_submodule(name)

    def loss(indices: Tensor) -> Tensor:
        given, keywords, wanted = targets_of(name, indices)
        with autocast(restorer.device, config):
            made = block(*given, **keywords)
        pairs = zip(tensors_of(made), tensors_of(wanted), strict=True)
        terms = [(a.float() - b).square().mean() / b.square().mean().clamp_min(1e-12) for a, b in pairs]
        return torch.stack(terms).mean()

    with _trainable_layers(restorer, config, name, metrics):
        parameters = trainable_parameters(restorer, config.only_distillation)
        if not parameters:
            return None
        return train(
            parameters,
            config.trainer,
            len(targets_of.images),
            loss,
            callbacks=callbacks,
            name=name,
            scale_loss=scales_loss(restorer, config),
        )


@contextmanager
def _trainable_layers(
    restorer: OneStepRestorer,
    config: RestorerDistillConfig,
    within: str = "",
    metrics: Mapping[str, Tensor] | None = None,
) -> Iterator[None]:
    """Inside, the restorer is in training mode and its low-bit layers are trainable; see `trainable_layers`."""
    restorer.train()
    saving = restorer.gradient_checkpointing() if config.checkpointing else nullcontext()
    try:
        with saving, trainable_layers(restorer, config, f"{within}." if within else "", metrics=metrics):
            yield
    finally:
        restorer.eval()


def _branch_metrics(
    restorer: OneStepRestorer, teacher: OneStepRestorer, images: Tensor, config: RestorerDistillConfig
) -> dict[str, Tensor]:
    """`branch_metrics` on the first images, with gradient checkpointing."""
    seen = images_at_once(teacher, images).to(teacher.device)
    with teacher.gradient_checkpointing():
        return branch_metrics(restorer, teacher, seen.split(1), call, config)


def _check_pair(restorer: RestorerModel, teacher: RestorerModel) -> None:
    check_pair(restorer, teacher)
    if restorer.config.to_dict() != teacher.config.to_dict():
        raise UsageError(f"a {restorer.config.name} cannot learn from a {teacher.config.name}: architectures differ")


def _outputs(restorer: OneStepRestorer, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(output images, restored latents, embedder positions) of images at the native size, in float32 or better."""
    positions = restorer.embedder.positions(images)
    latent = restorer.predict(restorer.encode(images), restorer.embedder.prompt(positions))
    return restorer.decode(latent).float(), latent.code, positions.float()


def _targets(teacher: OneStepRestorer, images: Tensor) -> PerImage:
    """A teacher's `_outputs` for images, as float16."""

    @torch.no_grad()
    def outputs(index: int) -> list[Tensor]:
        return [t.half() for t in _outputs(teacher, images[index : index + 1].to(teacher.device))]

    return PerImage(outputs)
