"""Build a low-bit model from a full-precision one, following a recipe.

calibrate -> allocate -> quantize -> distill -> save -> evaluate. The result of each stage is kept in a folder, under a
name that depends on its settings and all stages before it: a stopped build resumes, and after a change of recipe only
what is affected is rebuilt.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..charts import draw_bits, save_chart
from ..errors import ModelError, UsageError
from ..io.atomic import atomic_path, move_into_place
from ..io.catalogue import models_folder
from ..io.checkpoint import load_restorer
from ..io.checksum import sha256
from ..io.hub import locked
from ..io.models import restorer_path
from ..io.plans import load_plan, load_sensitivity
from ..io.recipes import Recipe, load_recipe
from ..quant.bit_program import describe_plan
from ..quant.quantize import check_config
from ..runtime.device import choose_device
from ..train.settings import resolved
from ..types import BitPlan
from .allocate import AllocateRequest, MeasureRequest, allocate, check_metric, measure
from .callbacks import PipelineCallbacks
from .checksums import images_sha256
from .evaluate import EvaluateRequest, EvaluateResult, evaluate
from .faces import FaceSource, load_faces, training_faces
from .models import LoadedModel, load_file, save_model
from .pairs import find_pairs
from .quantize import QuantizeRequest, quantize


@dataclass(frozen=True)
class BuildRequest:
    """What to build, from what, and where to."""

    recipe: Recipe
    output: Path  # the .safetensors file to write
    work: Path  # folder for the results of stages
    device: torch.device
    images: Path | None = None  # folder of aligned crops; None = the bundled portrait, degraded in many ways
    degrade: bool = False  # the images are clean: degrade them first, with seeds
    test: Path | None = None  # folder of other faces, clean with `degrade`, to evaluate on; None = no evaluation


@dataclass(frozen=True)
class BuildResult:
    """The finished model and what was made on the way."""

    path: Path
    quantized: Path  # the model before it was distilled
    plan: str = ""  # the plan's average bits, size and expected error, in one line; empty = no plan
    evaluation: EvaluateResult | None = None


def check_build(request: BuildRequest) -> None:
    """Raise UsageError or ConfigError for what would otherwise surface only after some of the work."""
    recipe = request.recipe
    check_config(recipe.quantize)
    if recipe.budget:
        check_metric(recipe.perceptual)
    if recipe.distill:
        resolved(recipe.distill, request.device)
        if recipe.distill.perceptual:
            check_metric(recipe.distill.perceptual)
    if request.images and not request.images.is_dir():
        raise UsageError(f"images {request.images}: no such folder")
    if request.test:
        find_pairs(request.test, None, request.degrade, None, field="test")
        if not recipe.metrics:
            raise UsageError(f"test: the recipe {recipe.name} names no metrics to evaluate with")


def build(request: BuildRequest, callbacks: PipelineCallbacks | None = None) -> BuildResult:
    """Carry out a recipe, reusing results of stages that are already there. Raises QuantFaceError."""
    callbacks = callbacks or PipelineCallbacks()
    check_build(request)
    result = _Build(request, callbacks).run()
    if request.test is None:
        return result
    source = request.recipe.source
    judged = EvaluateRequest(
        models={str(request.output): request.output, source: restorer_path(source)},
        reference=source,
        lq=request.test,
        degrade=request.degrade,
        metrics=request.recipe.metrics,
        device=request.device,
        output=request.work / "evaluation",
    )
    return replace(result, evaluation=evaluate(judged, callbacks))


def build_named(name: str, callbacks: PipelineCallbacks | None = None, device: torch.device | None = None) -> Path:
    """Return a shipped recipe's model in the models folder; build it first if it is missing and needs no training.

    `device`: where it is built; None = the best of this machine. Of two processes at once, only one builds it. Raises
    QuantFaceError.
    """
    callbacks = callbacks or PipelineCallbacks()
    output = models_folder() / f"{name}.safetensors"
    with locked(output, callbacks.notify):
        if not output.is_file():
            recipe = load_recipe(name)
            if recipe.distill:
                advice = f"build its recipe with a folder of aligned faces as images, and the output {output}"
                raise ModelError(f"{name} has to be trained on faces first: {advice}")
            callbacks.notify(f"{name} is built from {recipe.source} first, which may take an hour, into {output}")
            # All is written in a folder that this lock guards, so that what a killed process left there can be removed.
            work = output.with_suffix(".build")
            for left in work.glob(".quantface-*"):
                with suppress(OSError):
                    left.unlink()
            device = device or choose_device("auto")
            made = build(BuildRequest(recipe, work / output.name, work, device), callbacks)
            with atomic_path(output) as temporary:
                move_into_place(made.path, temporary)
            shutil.rmtree(work, ignore_errors=True)
    return output


class _Build:
    """One recipe for one output. Models are loaded when a stage needs them: at full size one is 4 GB."""

    def __init__(self, request: BuildRequest, callbacks: PipelineCallbacks) -> None:
        self.request, self.recipe, self.callbacks = request, request.recipe, callbacks
        fetching = callbacks.stage(f"fetch {self.recipe.source}", "byte")
        self.source = restorer_path(self.recipe.source, callbacks.notify, fetching)
        size = load_restorer(self.source, prefixes=()).image_size
        count = self.recipe.images
        if request.images and self.recipe.distill:
            wanted = training_faces(self.recipe.distill.trainer, self.recipe.validation)
            count = max(count, self.recipe.faces or wanted)
        self.images = load_faces(FaceSource(count, folder=request.images, degrade=request.degrade), size, callbacks)
        self.calibration = self.images[: self.recipe.images]
        self.identity = [sha256(self.source), images_sha256(self.calibration)]

    def run(self) -> BuildResult:
        plan, summary = self._plan()
        quantized = self._quantized(plan)
        self._finish(quantized)
        return BuildResult(self.request.output, quantized, summary)

    def _named(self, stage: str, suffix: str, settings: Any) -> Path:
        """The file of a stage's result: its name depends on its settings and on every stage before it."""
        self.identity.append(json.dumps(settings, sort_keys=True))
        digest = hashlib.sha256("\n".join(self.identity).encode()).hexdigest()[:12]
        return self.request.work / f"{stage}-{digest}{suffix}"

    def _full_precision(self) -> LoadedModel:
        return load_file(self.recipe.source, self.source, self.request.device)

    def _plan(self) -> tuple[BitPlan | None, str]:
        recipe = self.recipe
        if recipe.budget is None:
            return None, ""
        measured = self._named("sensitivity", ".json", [asdict(recipe.quantize), recipe.images, recipe.perceptual])
        planned = self._named("plan", ".json", asdict(recipe.budget))
        if not measured.exists():
            asked = MeasureRequest(
                self._full_precision(), self.calibration, recipe.quantize, recipe.perceptual, measured
            )
            measure(asked, self.callbacks)
        sensitivity = load_sensitivity(measured)
        if not planned.exists():
            allocate(AllocateRequest(sensitivity, recipe.budget, planned))
        plan = load_plan(planned)
        save_chart(draw_bits(plan, sensitivity), planned.with_suffix(".png"))
        summary = describe_plan(plan, sensitivity)
        self.callbacks.notify(f"plan: {summary}")
        return plan, summary

    def _quantized(self, plan: BitPlan | None) -> Path:
        recipe = self.recipe
        path = self._named("quantized", ".safetensors", [asdict(recipe.quantize), recipe.images])
        if not path.exists():
            asked = QuantizeRequest(self._full_precision(), self.calibration, recipe.quantize, plan, path)
            quantize(asked, self.callbacks)
        self.callbacks.notify(f"quantized: {path}, {path.stat().st_size / 1e6:.1f} MB")
        return path

    def _finish(self, quantized: Path) -> None:
        recipe, low = self.recipe, load_file(self.recipe.name, quantized, self.request.device)
        low = replace(low, notes={**low.notes, "recipe": recipe.name})
        if recipe.distill:
            from .distill import DistillRequest, distill  # needs peft, which hosts that never train may lack

            validation = min(recipe.validation, len(self.images) // 2)
            settings = [asdict(recipe.distill), recipe.mode, images_sha256(self.images), validation]
            folder = self._named("distill", "", settings)
            teacher = self._full_precision()
            asked = DistillRequest(low, teacher, self.images, recipe.distill, recipe.mode, validation, folder)
            low = distill(asked, self.callbacks).model
        save_model(low, self.request.output)
