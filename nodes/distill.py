"""QD-LoRA Distill."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from comfy_api.latest import io

from . import faces as face_inputs
from . import host
from .host import FRModel, FRModelSocket, advanced
from .pictures import from_chart

if TYPE_CHECKING:
    from ..quantface_core.pipelines.distill import DistillResult
    from ..quantface_core.types import DistillMode

MODES = ["end-to-end", "blocks"]
_VALIDATIONS = 8  # in a run


class QDLoRADistill(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="QuantFace_QDLoRADistill",
            display_name="QD-LoRA Distill",
            description="Trains a quantized model's small branches until its pictures are the full-precision model's.",
            search_aliases=["train", "lora", "finetune", "distillation", "quantize", "quantface"],
            inputs=[
                FRModelSocket.Input("fr_model", tooltip="A quantized model, from Calibrate & Balance."),
                FRModelSocket.Input("teacher", tooltip="The full-precision model that it was made of."),
                *face_inputs.inputs(500),
                io.Int.Input("steps", default=200, min=1, max=1_000_000,
                             tooltip="More is better, slowly. In blocks mode, those of each block."),
                io.Int.Input("rank", default=16, min=0, max=128,
                             tooltip="Of the branch that is added for training; 0 = train the one that is there."),
                io.Float.Input("learning_rate", default=1e-4, min=1e-6, max=1.0, step=1e-5, round=1e-7,
                               tooltip="Lower it when the loss jumps."),
                io.Int.Input("batch_size", default=4, min=1, max=256, tooltip="Faces a step. Less needs less memory."),
                io.Combo.Input("mode", options=MODES, default="end-to-end",
                               tooltip="blocks trains one block at a time: little memory, a little worse."),
                io.Int.Input("validation", default=8, min=0, max=256,
                             tooltip="So many faces are held back, to choose the best step by; 0 = keep the last."),
                advanced(io.Int.Input("seed", default=0, min=0, max=2**31 - 1, control_after_generate=False,
                             tooltip="Of the faces' order and the new branch.")),
            ],
            outputs=[
                FRModelSocket.Output("fr_model_out", display_name="FR_MODEL"),
                io.Image.Output("chart", display_name="chart"),
                io.String.Output("report", display_name="report"),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, folder: str | None = None) -> bool | str:
        return face_inputs.validate(folder)

    @classmethod
    def fingerprint_inputs(cls, folder: str | None = None, **_: object) -> str:
        return face_inputs.fingerprint(folder)

    @classmethod
    def execute(
        cls,
        fr_model: FRModel,
        teacher: FRModel,
        folder: str,
        count: int,
        find_faces: bool,
        degrade: bool,
        steps: int,
        rank: int,
        learning_rate: float,
        batch_size: int,
        mode: DistillMode,
        validation: int,
        seed: int,
        faces: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        from ..quantface_core.errors import UsageError
        from ..quantface_core.nn.swap import quant_layers
        from ..quantface_core.pipelines.distill import DistillRequest, distill
        from ..quantface_core.pipelines.faces import load_faces
        from ..quantface_core.pipelines.models import LoadedModel
        from ..quantface_core.types import DistillSettings, TrainerSettings

        low_bit = quant_layers(fr_model.restorer).values()
        if not any(layer.format.rank for layer in low_bit):
            state = "has no branches to train: give Calibrate & Balance a rank above 0"
            full = "is in full precision: put Calibrate & Balance between"
            raise UsageError(f"fr_model: {fr_model.name} {state if low_bit else full}")
        if quant_layers(teacher.restorer):
            raise UsageError(f"teacher: {teacher.name} is quantized too, give the full-precision model")
        every = max(1, steps // _VALIDATIONS)
        trainer = TrainerSettings(
            steps, batch_size, learning_rate=learning_rate, seed=seed,
            warmup=min(20, steps // 10), validate_every=every, save_every=every,
        )  # fmt: skip
        callbacks = host.Progress().callbacks()
        with torch.inference_mode(False), host.memory_given_back():
            host.load_together(fr_model, teacher)
            # What is trained is float32, whatever the model computes in otherwise.
            learner = LoadedModel(fr_model.name, copy.deepcopy(fr_model.restorer).float(), fr_model.notes)
            source = face_inputs.source(faces, folder, count, find_faces, degrade)
            images = load_faces(source, learner.restorer.image_size, callbacks)
            request = DistillRequest(
                learner,
                LoadedModel(teacher.name, teacher.restorer),
                images,
                DistillSettings(trainer=trainer, rank=rank),
                mode,
                min(validation, len(images) // 2),
            )
            result = distill(request, callbacks)
            restorer = result.model.restorer.to(fr_model.restorer.dtype)
        name = f"{fr_model.name}-distilled"
        return io.NodeOutput(
            FRModel(name, restorer, result.model.notes),
            host.to_host(from_chart(result.chart)),
            f"{name}: {_report(result)}",
        )


def _report(result: DistillResult) -> str:
    blocks = f" in each of {len(result.reports)} blocks" * ("" not in result.reports)
    lines = [f"{len(result.losses)} steps{blocks}, loss {result.losses[0]:.3e} to {result.losses[-1]:.3e}"]
    lines += [f"step {step}: {score:.2f} dB to the full-precision model" for step, score in result.scores]
    return "\n".join([*lines, result.advice]).rstrip()
