"""Compare FR Models."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from . import host, previews
from .faces import FacesNode, face_inputs, face_source
from .fr_model import FRModel
from .host import FRModelSocket
from .memory import memory_given_back

_SMALLEST = 161  # pixels, the smallest side for MS-SSIM


class CompareModels(FacesNode):
    """Restores the same faces with two models, and measures how far apart the results are."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="QuantFace_CompareModels",
            display_name="Compare FR Models",
            description="Restores aligned faces with two models, side by side, and reports how far apart they are.",
            search_aliases=["compare", "psnr", "ssim", "quality", "quantface"],
            is_output_node=True,
            inputs=[
                FRModelSocket.Input("first", tooltip="For example the full-precision model."),
                FRModelSocket.Input("second", tooltip="For example its 4-bit version."),
                *face_inputs(4),
            ],
            outputs=[
                io.Image.Output(
                    "image", display_name="side by side", tooltip="Each face, and both models' results beside it."
                ),
                io.String.Output("report", display_name="report", tooltip="How far apart they are, as text."),
            ],
        )

    @classmethod
    def execute(cls, first: FRModel, second: FRModel, **given: Any) -> io.NodeOutput:
        from ..quantface_core.metrics import ms_ssim, psnr, ssim
        from ..quantface_core.pipelines.faces import load_faces

        size = max(model.restorer.image_size for model in (first, second))
        bar, done = host.Progress(), 0
        callbacks = bar.callbacks()
        faces = load_faces(face_source(**given), size, callbacks)
        made: dict[FRModel, list[torch.Tensor]] = {first: [], second: []}
        for model, pictures in made.items():
            restorer = model.ready()
            with callbacks.cancellable(restorer), memory_given_back():
                for face in faces.split(1):
                    own = _resized(face, restorer.image_size).to(restorer.device)
                    pictures.append((_resized(restorer(own).float().cpu(), size) / 2 + 0.5).clamp(0, 1))
                    done += 1
                    bar(done, len(made) * len(faces))
        a, b = torch.cat(made[first]), torch.cat(made[second])
        metrics = {"PSNR {:.2f} dB": psnr, "SSIM {:.4f}": ssim}
        if size >= _SMALLEST:
            metrics["MS-SSIM {:.4f}"] = ms_ssim
        scores = {text: metric(b, a) for text, metric in metrics.items()}
        same = (a == b).flatten(1).all(1)
        lines = [f"{second.name} against {first.name}, {len(faces)} faces; their mean: " + _written(scores, None)]
        lines += [f"face {i}: {'identical' if same[i] else _written(scores, i)}" for i in range(len(faces))]
        before, after = a.movedim(1, -1), b.movedim(1, -1)
        row = torch.cat([(faces / 2 + 0.5).movedim(1, -1), before, after], dim=2)
        return io.NodeOutput(host.to_host(row), "\n".join(lines), ui=previews.before_after(before, after, cls))


def _resized(pictures: torch.Tensor, size: int) -> torch.Tensor:
    """Resize images [N, 3, S, S]: the two models' sizes may differ."""
    if pictures.shape[-1] == size:
        return pictures
    return torch.nn.functional.interpolate(pictures, size=(size, size), mode="bicubic", antialias=True)


def _written(scores: dict[str, torch.Tensor], face: int | None) -> str:
    """The scores of one face, or their mean."""
    return ", ".join(text.format(float(s.mean() if face is None else s[face])) for text, s in scores.items())
