"""Why the backend cannot run: its own test, and what precedes that."""

from __future__ import annotations

import warnings
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from quantface_core.kernels import triton
from tests.kernels.triton.draws import DEVICE

pytest.importorskip("triton", "3", reason="needs triton 3, which comes with torch for CUDA")
from quantface_core.kernels.triton import conv2d, launch, linear, self_test

PARTS = ("_norms", "_layers", "_tiles", "_parts", "_fused")


def without(monkeypatch: pytest.MonkeyPatch, *parts: str) -> None:
    for part in parts:
        monkeypatch.setattr(self_test, part, lambda _: iter(()))


def test_a_failure_is_reported_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "group_norm", lambda x, *_: x)
    assert triton._self_test_failure(DEVICE) == "its results are wrong here"
    monkeypatch.setattr(self_test, "group_norm", lambda *_: 1 / 0)
    assert triton._self_test_failure(DEVICE) == "Triton cannot compile here (division by zero)"


@pytest.mark.parametrize("text", ["Triton Error [CUDA]: out of memory", "CUDA error: out of memory"])
def test_out_of_memory_is_raised_not_cached(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_it(_: torch.device) -> bool:
        raise RuntimeError(text)

    monkeypatch.setattr(self_test, "agrees", raise_it)
    with pytest.raises(RuntimeError, match="out of memory"):
        triton._self_test_failure(DEVICE)


def test_every_kernel_is_run_whatever_autocast_and_inference_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    started: dict[str, list[dict[str, Any]]] = {}
    plain = launch.start

    def start(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
        given = dict(zip(kernel.arg_names, arguments, strict=False)) | options
        started.setdefault(kernel.fn.__name__, []).append(given)
        plain(kernel, grid, *arguments, **options)

    monkeypatch.setattr(launch, "start", start)
    monkeypatch.setattr(launch, "multiprocessors", lambda _: 28)  # the interpreter's one splits no product
    with torch.inference_mode(), torch.autocast(DEVICE.type, torch.bfloat16):
        assert triton._self_test_failure(DEVICE) is None
    assert set(started) == {
        "_balanced", "_factors", "_image_codes", "_normalized", "_sums", "_tokens", "_unpacked",
        "conv2d", "conv2d_joined", "conv2d_part", "linear",
    }  # fmt: skip
    options = {
        "_tokens": ("matrix", "factors", "weight", "down"), "_balanced": ("matrix", "factors", "scales", "SILU"),
        "linear": ("low", "skip"), "conv2d": ("low", "added", "skip", "totals"),
    }  # fmt: skip
    for kernel, names in options.items():
        assert any(all(run[name] is not None and run[name] is not False for name in names) for run in started[kernel])
    assert {run["EVEN"] for run in started["conv2d"] + started["conv2d_part"]} == {True, False}


@pytest.mark.parametrize("part", ["low", "channel_bias", "skip"])
def test_a_missing_epilogue_is_detected(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, *PARTS[:-1])  # what is fused is in the last only
    for layers in (conv2d, linear):
        plain = layers.Epilogue
        monkeypatch.setattr(layers, "Epilogue", lambda *a, plain=plain, **k: replace(plain(*a, **k), **{part: None}))
    assert triton._self_test_failure(DEVICE) == "its results are wrong here"


@pytest.mark.parametrize(("seconds", "notices"), [(30.0, 1), (0.1, 0)])
def test_slow_compilation_warns(seconds: float, notices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, *PARTS)
    clock = iter((0.0, seconds))
    monkeypatch.setattr(self_test, "perf_counter", lambda: next(clock))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert self_test.agrees(SimpleNamespace(type="cuda"))
    assert ["Triton compiles its kernels" in str(warning.message) for warning in caught] == [True] * notices


def test_unavailable_names_the_reason() -> None:
    assert "not on cpu" in triton.unavailable(torch.device("cpu"))
    if torch.cuda.is_available():
        assert triton.unavailable(DEVICE) is None
