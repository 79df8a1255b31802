"""Kept memory goes back when the last user is done; nesting and failures included."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from quantface_core import QuantConfig, quantize
from quantface_core.quant.fisher import output_fisher
from quantface_core.runtime import memory
from quantface_core.runtime.memory import explain_out_of_memory, is_out_of_memory, kept_memory, released_memory

STATUS = Path("/proc/self/status")


def resident() -> float:
    return int(re.search(r"VmRSS:\s+(\d+)", STATUS.read_text())[1]) / 1024


@pytest.mark.skipif(not STATUS.exists(), reason="reads Linux's account of this process")
def test_memory_is_given_back_at_the_end() -> None:
    before = resident()
    with kept_memory(), kept_memory():
        maps = [torch.ones(64 << 20, dtype=torch.uint8) for _ in range(4)]
        del maps
    assert resident() < before + 64


class Allocator:
    """In the C library's place: what freed blocks do now, and how often all were given back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keeps, self.trims = False, 0
        monkeypatch.setattr(memory, "_glibc", lambda: self)

    def mallopt(self, _: int, threshold: int) -> None:
        self.keeps = threshold > 1 << 30

    def malloc_trim(self, _: int) -> None:
        self.trims += 1


def test_memory_is_released_inside_what_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    allocator = Allocator(monkeypatch)
    with kept_memory():
        assert allocator.keeps
        with released_memory(), kept_memory(), released_memory():
            assert (allocator.keeps, allocator.trims) == (False, 1)
        assert allocator.keeps
    assert (allocator.keeps, allocator.trims) == (False, 2)


def test_a_backward_pass_keeps_no_freed_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    allocator, kept = Allocator(monkeypatch), []
    layer = torch.nn.Linear(4, 4)
    layer.register_forward_hook(lambda *_: kept.append(allocator.keeps))
    with kept_memory():
        output_fisher(layer, [torch.randn(3, 4)], {"layer": layer}, lambda model, x: model(x))
    assert kept == [False]


def test_a_search_keeps_no_freed_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    allocator, kept = Allocator(monkeypatch), []
    model = torch.nn.Sequential(torch.nn.Linear(64, 64))
    model.register_forward_hook(lambda *_: kept.append(allocator.keeps))
    with kept_memory():
        quantize(model, [torch.randn(3, 64)], QuantConfig(rank=0))
    assert kept == [True, False]  # calibration, search


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("no room"),
        RuntimeError("MPS backend Out of Memory"),
        ValueError("out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
            "tried to allocate 1125899906842624 bytes. Error code 12 (Cannot allocate memory)"
        ),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1125899906842624 bytes."),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_running_out_of_memory_is_told_from_other_errors(error: Exception) -> None:
    caused = RuntimeError("one face does not fit")
    assert not is_out_of_memory(caused)
    caused.__cause__ = error
    assert is_out_of_memory(error)
    assert is_out_of_memory(caused)
    assert not is_out_of_memory(None)


def test_torch_on_the_cpu_runs_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    assert is_out_of_memory(caught.value)


def test_the_advice_is_for_the_memory_that_ran_out() -> None:
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")):
        assert "close other programs" in explain_out_of_memory(error)
    for error in (OutOfMemoryError("no room"), RuntimeError("MPS backend out of memory")):
        assert "use device cpu" in explain_out_of_memory(error)


def test_an_error_passes_through() -> None:
    with pytest.raises(ValueError, match="mine"), kept_memory():
        raise ValueError("mine")
