"""What a model is executed with, from a command's options."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import pytest
import torch

from quantface_core.cli.devices import execution_of
from quantface_core.pipelines.callbacks import PipelineCallbacks


def test_a_missing_model_is_built_by_the_threads_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    built_by = []

    def model_path(name: str, callbacks: PipelineCallbacks, device: torch.device) -> Path:
        built_by.append(torch.get_num_threads())
        return Path(f"{name}.safetensors")

    monkeypatch.setattr("quantface_core.pipelines.fetch.model_path", model_path)
    usual = torch.get_num_threads(), cv2.getNumThreads()
    options = argparse.Namespace(model="osdface", backend="auto", precision="auto", low_memory=False)
    try:
        for threads in (usual[0] + 1, None):
            options.threads = threads
            execution = execution_of(options, torch.device("cpu"), PipelineCallbacks())
            assert (execution.model, execution.threads) == (Path("osdface.safetensors"), threads)
            assert built_by.pop() == usual[0] + 1
    finally:
        torch.set_num_threads(usual[0])
        cv2.setNumThreads(usual[1])
