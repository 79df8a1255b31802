"""What each part of `gpu.py` measures, in a process of its own."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from gpu_layers import checks, wrong
from gpu_rows import CudaMeter, measure
from random_models import random_model
from torch import Tensor

from quantface_core import OneStepRestorer, load_restorer, restorer_path
from quantface_core.bundled import bundled_faces
from quantface_core.kernels.dispatch import BACKENDS, choose_backend
from quantface_core.nn.swap import prepare
from quantface_core.runtime.memory import is_out_of_memory
from quantface_core.stages.distill import distill
from quantface_core.types import RestorerDistillConfig, TrainerConfig

Results = Iterator[dict[str, Any]]
"""Parts of gpu.json, as they are measured."""


def psnr(a: Tensor, b: Tensor) -> float:
    """Decibels between images in [-1, 1]; infinite for equal ones."""
    error = float((a.double() - b.double()).square().mean())
    return 10 * math.log10(4 / error) if error else math.inf


@torch.inference_mode()
def distances(device: torch.device, count: int = 4) -> dict[str, float]:
    """PSNR between the bundled low-bit model's images by the fastest backend and `reference`, and to float32's."""
    low = load_restorer(restorer_path("quantface-mini-w4a4"), device)
    full = load_restorer(restorer_path("quantface-mini"), device, torch.float32)
    faces = bundled_faces(count, low.config.image_size).to(device)
    exact, found = torch.cat([full(face[None]) for face in faces]), {}
    for name in (None, "reference"):
        prepare(low, choose_backend(device, name))
        found[name or "fastest"] = torch.cat([low(face[None]) for face in faces])
    return {
        "fastest to reference (dB)": psnr(found["fastest"], found["reference"]),
        "fastest to full precision (dB)": psnr(found["fastest"], exact),
        "reference to full precision (dB)": psnr(found["reference"], exact),
    }


def step_time(device: torch.device, steps: int = 8) -> float:
    """Seconds of one step of distilling the bundled models, as the extra time of more steps."""
    seconds = []
    for count in (2, 2 + steps):
        low, full = (load_restorer(restorer_path(f"quantface-mini{end}"), device) for end in ("-w4a4", ""))
        faces = bundled_faces(5, low.config.image_size)
        fit = TrainerConfig(steps=count, batch_size=4, validate_every=count, save_every=count)
        start = time.perf_counter()
        distill(low, full.float(), faces[:4], faces[4:], RestorerDistillConfig(fit))
        seconds.append(time.perf_counter() - start)
    return (seconds[1] - seconds[0]) / steps


def against_reference(path: Path, device: torch.device) -> float:
    """Decibels between a file's images by the fastest backend and by `reference`."""
    restorer = load_restorer(path, device)
    size = restorer.config.image_size
    face = (torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1).to(device)
    pictures = []
    with torch.inference_mode():
        for name in (None, "reference"):
            prepare(restorer, choose_backend(device, name))
            pictures.append(restorer(face))
    return psnr(*pictures)


def kernels(model: str, bits: str, device: torch.device) -> Results:
    """Check every kind of layer of a low-bit model by the backends for GPUs."""
    with random_model(model, bits) as path:
        restorer = load_restorer(path, device)
    assert isinstance(restorer, OneStepRestorer)
    size = restorer.config.image_size
    face = (torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1).to(device)
    for backend in ("triton", "half"):
        began = time.perf_counter()
        reason = BACKENDS[backend].unavailable(device)
        yield {"kernels": {f"{model} {bits}, {backend}'s self-test": reason or f"{time.perf_counter() - began:.0f} s"}}
        if reason:
            continue
        made = list(checks(restorer, backend, face))
        bad = [f"{check.layer}, {check.kind}: {check.error:.2g}" + ("" if check.repeats else ", differs between runs")
               for check in wrong(made, backend)]  # fmt: skip
        worst = max(check.error for check in made)
        told = f"{len(bad)} of {len(made)} checks failed, the largest error {worst:.2g} of a result"
        yield {"kernels": {f"{model} {bits}, {backend}": "; ".join((told, *bad))}}


def faces(model: str, bits: str, device: torch.device, counts: list[int], runs: int) -> Results:
    """Measure one precision; its model is the only one on the device."""
    with random_model(model, bits) as path:
        restorer = load_restorer(path, device, torch.bfloat16 if bits == "bf16" else None)
        assert isinstance(restorer, OneStepRestorer)
        for count in counts:
            try:
                for row in measure(restorer, (model, bits), count, CudaMeter(), runs):
                    yield {"rows": [asdict(row)]}
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                print(f"{model} {bits}, {count} faces: out of memory", file=sys.stderr)
        del restorer
        torch.cuda.empty_cache()
        if bits != "bf16":
            yield {"psnr": {f"{model} {bits}": against_reference(path, device)}}
