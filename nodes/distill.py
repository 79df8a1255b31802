"""QD-LoRA Distill."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io

from ..quantface_core.types import DISTILL_MODES
from . import host
from .faces import FacesNode, face_inputs, face_source
from .fr_model import FRModel, load_together
from .host import FRModelSocket, advanced
from .memory import memory_given_back
from .pictures import from_chart

if TYPE_CHECKING:
    from ..quantface_core.pipelines.distill import DistillResult
    from ..quantface_core.types import DistillMode

_VALIDATIONS = 8  # per run


class QDLoRADistill(FacesNode):
    """Trains a quantized model's branches against its full-precision original."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="QuantFace_QDLoRADistill",
            display_name="QD-LoRA Distill",
            description="Trains a quantized model's small branches until its images match the full-precision model's.",
            search_aliases=["train", "lora", "finetune", "distillation", "quantize", "quantface"],
            inputs=[
                FRModelSocket.Input("fr_model", tooltip="A quantized model, from Calibrate & Balance."),
                FRModelSocket.Input("teacher", tooltip="The full-precision model it was made from."),
                *face_inputs(500),
                io.Int.Input("steps", default=200, min=1, max=1_000_000,
                             tooltip="More is better, but slower. In blocks mode: steps per block."),
                io.Int.Input("rank", default=16, min=0, max=128,
                             tooltip="Rank of the branch added for training; 0 = train the existing one."),
                io.Float.Input("learning_rate", default=1e-4, min=1e-6, max=1.0, step=1e-5, round=1e-7,
                               tooltip="Lower it if the loss jumps."),
                io.Int.Input("batch_size", default=4, min=1, max=256,
                             tooltip="Faces per step. Fewer need less memory."),
                io.Combo.Input("mode", options=list(DISTILL_MODES), default=DISTILL_MODES[0],
                               tooltip="blocks trains one block at a time: needs little memory, slightly worse."),
                io.Int.Input("validation", default=8, min=0, max=256,
                             tooltip="This many faces are held back to choose the best step; 0 = keep the last."),
                advanced(io.Int.Input("seed", default=0, min=0, max=2**31 - 1, control_after_generate=False,
                             tooltip="Seed of the order of the faces and of the new branch.")),
            ],
            outputs=[
                FRModelSocket.Output("fr_model_out", display_name="FR_MODEL",
                                     tooltip="The model with trained branches."),
                io.Image.Output("chart", display_name="chart", tooltip="The loss of every step, and the validations."),
                io.String.Output("report", display_name="report", tooltip="What the training gained, as text."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        fr_model: FRModel,
        teacher: FRModel,
        steps: int,
        rank: int,
        learning_rate: float,
        batch_size: int,
        mode: DistillMode,
        validation: int,
        seed: int,
        **given: Any,
    ) -> io.NodeOutput:
        from ..quantface_core.errors import UsageError
        from ..quantface_core.nn.swap import quant_layers
        from ..quantface_core.pipelines.distill import DistillRequest, distill
        from ..quantface_core.pipelines.faces import load_faces
        from ..quantface_core.pipelines.models import LoadedModel
        from ..quantface_core.types import RestorerDistillConfig, TrainerConfig

        low_bit = quant_layers(fr_model.restorer).values()
        if not any(layer.format.rank for layer in low_bit):
            state = "has no branches to train: set a rank above 0 in Calibrate & Balance"
            full = "is in full precision: put Calibrate & Balance in between"
            raise UsageError(f"fr_model: {fr_model.name} {state if low_bit else full}")
        if quant_layers(teacher.restorer):
            raise UsageError(f"teacher: {teacher.name} is quantized too: connect the full-precision model")
        every = max(1, steps // _VALIDATIONS)
        trainer = TrainerConfig(
            steps, batch_size, learning_rate=learning_rate, seed=seed,
            warmup=min(20, steps // 10), validate_every=every, save_every=steps,
        )  # fmt: skip
        callbacks = host.Progress().callbacks()
        with torch.inference_mode(False), memory_given_back():
            load_together(fr_model, teacher)
            # Training is in float32, whatever dtype the model otherwise computes in.
            learner = LoadedModel(fr_model.name, copy.deepcopy(fr_model.restorer).float(), fr_model.notes)
            images = load_faces(face_source(**given), learner.restorer.image_size, callbacks)
            request = DistillRequest(
                learner,
                LoadedModel(teacher.name, teacher.restorer),
                images,
                RestorerDistillConfig(trainer=trainer, rank=rank),
                mode,
                min(validation, len(images) // 2),
                runs=host.runs_folder(),
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
    return "\n".join(filter(None, [*lines, result.warning, result.advice]))
