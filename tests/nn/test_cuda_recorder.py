"""The recorder of CUDA graphs, without a GPU: what it asks of torch, in which order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from quantface_core.nn.cuda_recorder import CudaRecorder, cuda_recorder
from tests.nn.layers import CPU


def test_a_processor_has_none() -> None:
    assert cuda_recorder(CPU) is None


ENDS = ("_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool")  # the second up to torch 2.5


class Cuda:
    """What `CudaRecorder` asks of torch, told as it is asked."""

    def __init__(self, patch: pytest.MonkeyPatch, end: Exception | None = None, end_name: str = ENDS[0]) -> None:
        self.told: list[Any] = []
        self.end, self.current = end, self
        patch.setattr(torch.cuda, "device", lambda device: self._within(f"device {device.index}"))
        patch.setattr(torch.cuda, "stream", lambda _: self._within("side stream"))
        patch.setattr(torch.cuda, "Stream", lambda: self)
        patch.setattr(torch.cuda, "current_stream", lambda *_: self.current)
        patch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
        patch.setattr(torch.cuda, "CUDAGraph", lambda: self)
        patch.setattr(torch.cuda, "current_device", lambda: 1)
        for name in ("synchronize", "empty_cache"):
            patch.setattr(torch.cuda, name, lambda: None)
        for name in ENDS:
            patch.delattr(torch._C, name, raising=False)
        for name in (end_name, "_cuda_releasePool"):
            patch.setattr(torch._C, name, lambda *given, name=name: self.told.append((name, *given)), raising=False)

    @contextmanager
    def _within(self, name: str) -> Iterator[None]:
        self.told.append(name)
        try:
            yield
        finally:
            self.told.append(f"{name} left")

    def wait_stream(self, other: Cuda) -> None:
        self.told.append(("waits", other))

    def capture_begin(self, **_: object) -> None:
        self.told.append("begin")

    def capture_end(self) -> None:
        self.told.append("end")
        if self.end:
            raise self.end

    def replay(self) -> None:
        self.told.append("replay")


RECORDED = ["device 1", "side stream", "work", "side stream left", "side stream", "begin", "work", "end"]


def without_waits(told: list[Any]) -> list[Any]:
    return [one for one in told if one[0] != "waits"]


def test_it_is_recorded_on_the_model_s_device(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(monkeypatch)
    recorder = CudaRecorder(torch.device("cuda", 1))
    cuda.told.clear()
    recorder.capture(lambda: cuda.told.append("work"))
    assert without_waits(cuda.told) == [*RECORDED, "side stream left", "replay", "device 1 left"]


def test_a_face_waits_for_the_last_one_where_that_ran_on_another_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would overwrite what the other is still reading: both are in the same tensors."""
    cuda, other = Cuda(monkeypatch), Cuda(monkeypatch)
    recorder, streams = CudaRecorder(torch.device("cuda", 1)), [cuda, cuda, other, other, cuda]
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: streams.pop(0))
    while streams:
        recorder.follow()
    assert [told for told in other.told if told[0] == "waits"] == [("waits", cuda)]
    assert [told for told in cuda.told if told[0] == "waits"] == [("waits", other)]


FAILURE = RuntimeError("operation failed due to a previous error during capture")


@pytest.mark.parametrize("end_name", ENDS)
def test_a_capture_whose_end_fails_leaves_torch_as_it_was(end_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stream is the current one no longer, and its allocator frees again."""
    cuda = Cuda(monkeypatch, FAILURE, end_name)
    recorder = CudaRecorder(torch.device("cuda", 1))
    cuda.told.clear()
    with pytest.raises(RuntimeError, match="during capture"):
        recorder.capture(lambda: cuda.told.append("work"))
    returned = [(end_name, 1, (0, 1)), ("_cuda_releasePool", 1, (0, 1))]
    assert without_waits(cuda.told) == [*RECORDED, *returned, "side stream left", "device 1 left"]


def test_a_pool_that_was_not_ended_is_not_released(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_the_device_alone(device: int) -> None:
        raise AssertionError

    cuda = Cuda(monkeypatch, FAILURE)
    monkeypatch.setattr(torch._C, ENDS[0], of_the_device_alone)
    with pytest.raises(RuntimeError, match="during capture"):
        CudaRecorder(torch.device("cuda", 1)).capture(lambda: None)
    assert not any("_cuda_releasePool" in told for told in cuda.told)


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError("CUDA out of memory"), KeyboardInterrupt()])
def test_the_end_does_not_hide_what_made_the_capture_fail(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = Cuda(monkeypatch, FAILURE)

    def work() -> None:
        if "begin" in cuda.told:
            raise error

    with pytest.raises(type(error)):
        CudaRecorder(torch.device("cuda", 1)).capture(work)
    assert "end" in cuda.told
