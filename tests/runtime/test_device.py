"""The device that "auto" stands for, and devices that are not there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch

from quantface_core import load_quantized, load_restorer, restorer_path
from quantface_core.errors import UsageError
from quantface_core.runtime.device import choose_device, usable_device


@pytest.mark.parametrize("here", [["cuda", "xpu", "mps"], ["xpu", "mps"], ["mps"], []])
def test_auto_prefers_a_gpu(here: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    best = [*here, "cpu"][0]
    for name, module in {"cuda": torch.cuda, "xpu": torch.xpu, "mps": torch.backends.mps}.items():
        monkeypatch.setattr(module, "is_available", partial(here.__contains__, name))
    asked: list[str] = []
    monkeypatch.setattr(torch, "empty", lambda size, device: asked.append(device))
    assert choose_device("auto") == usable_device("auto") == torch.device(best)
    assert asked == [best]


def test_a_front_end_computes_the_same_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("deterministic", False), ("benchmark", True)):
        monkeypatch.setattr(torch.backends.cudnn, name, value)
    choose_device("cpu")
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark


def test_a_library_leaves_torchs_settings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    usable_device("auto")
    assert not torch.backends.cudnn.deterministic


@pytest.mark.parametrize("device", ["nowhere", "cuda:4000"])
def test_a_device_that_is_not_there_is_told(device: str) -> None:
    with pytest.raises(UsageError, match=f"the device {device} cannot be used here"):
        usable_device(device)


@pytest.mark.parametrize("load", [load_restorer, load_quantized])
def test_files_are_loaded_onto_the_device_that_auto_prefers(
    load: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantface_core.runtime.device._present", lambda: ["nowhere", "cpu"])
    with pytest.raises(UsageError, match="the device nowhere cannot be used here"):
        load(restorer_path("quantface-mini-w4a4"), device="auto")
