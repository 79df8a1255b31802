"""The check of every layer that a GPU does first finds a kernel that is wrong."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import gpu_layers
import pytest
import torch
from random_models import low_bit_layers

from quantface_core.kernels import half
from quantface_core.restorer import OneStepRestorer
from tests.kernels.triton.draws import DEVICE

pytest.importorskip("triton", "3", reason="needs triton 3, which comes with torch for CUDA")
from quantface_core.kernels.triton import conv2d, linear

FACE = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def low(tiny: OneStepRestorer) -> OneStepRestorer:
    made = copy.deepcopy(tiny)
    low_bit_layers(made, "w4a4", rank=4)
    return made.to(DEVICE)


def found(low: OneStepRestorer, backend: str, monkeypatch: pytest.MonkeyPatch) -> list[gpu_layers.Check]:
    """Checks of a linear of each class and of two convolutions, one of which upsamples: with the fewest inputs."""
    every = gpu_layers.inputs_of(low, FACE.to(DEVICE))
    layers = gpu_layers.quant_layers(low)
    names = sorted(every, key=lambda name: -every[name].numel())
    kinds = {(type(layers[name]), getattr(layers[name], "fuse_upsample", False)): name for name in names}
    chosen = {name: every[name] for name in kinds.values()}
    monkeypatch.setattr(gpu_layers, "inputs_of", lambda *_: chosen)
    return list(gpu_layers.checks(low, backend, FACE.to(DEVICE)))


def test_every_kind_of_layer_is_checked(low: OneStepRestorer) -> None:
    names = gpu_layers.inputs_of(low, FACE.to(DEVICE))
    layers = gpu_layers.quant_layers(low)
    assert {layers[name].shape for name in names} == {layer.shape for layer in layers.values()}
    assert len(names) < len(layers)


def test_right_kernels_pass(low: OneStepRestorer, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = found(low, "triton", monkeypatch)
    kinds = {"norm", "skip", "gate", "plain", "norm, SiLU, bias, skip", "channel sums", "upsampled"}
    assert {check.kind for check in checks} == kinds
    assert gpu_layers.wrong(checks, "triton") == []


def test_a_wrong_epilogue_is_found(low: OneStepRestorer, monkeypatch: pytest.MonkeyPatch) -> None:
    for layers in (conv2d, linear):
        plain = layers.Epilogue
        monkeypatch.setattr(layers, "Epilogue", lambda *a, plain=plain, **k: replace(plain(*a, **k), skip=None))
    kinds = {check.kind for check in gpu_layers.wrong(found(low, "triton", monkeypatch), "triton")}
    assert {"skip", "norm, SiLU, bias, skip"} <= kinds <= {"skip", "norm, SiLU, bias, skip", "channel sums"}


def test_a_kernel_that_cannot_be_compiled_is_named(low: OneStepRestorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conv2d, "conv2d_product", lambda *_, **__: 1 / 0)
    bad = gpu_layers.wrong(found(low, "triton", monkeypatch), "triton")
    assert {check.kind for check in bad if "by zero" in check.kind} == {
        f"{kind}: division by zero" for kind in ("plain", "norm, SiLU, bias, skip", "channel sums", "upsampled")
    }


def test_float16_products_are_checked_too(low: OneStepRestorer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_layers.wrong(found(low, "half", monkeypatch), "half") == []
    product = half.Linear.product

    def nan(self: Any, *given: Any) -> torch.Tensor:
        return product(self, *given) * float("nan")

    monkeypatch.setattr(half.Linear, "product", nan)
    assert gpu_layers.wrong(found(low, "half", monkeypatch), "half")
