"""Captured images on a real GPU: those that the kernels compute when launched one by one."""

from __future__ import annotations

import copy

import pytest
import torch

from quantface_core.nn.graphs import Graphs, without_graphs
from quantface_core.restorer import OneStepRestorer

CUDA = torch.device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available() or torch.version.cuda is None, reason="needs an NVIDIA GPU")
@torch.inference_mode()
def test_replayed_faces_are_those_of_separate_launches(tiny: OneStepRestorer) -> None:
    """Also after the model moved, and after a batch ran between two replays."""
    restorer = copy.deepcopy(tiny).to(CUDA)
    faces = [torch.rand(1, 3, 64, 64, device=CUDA) * 2 - 1 for _ in range(4)]
    with without_graphs():
        expected = [restorer(face) for face in faces]
    for _ in range(2):
        restored = [restorer(face).clone() for face in faces]
        restorer(torch.cat(faces))
        restored += [restorer(face).clone() for face in faces]
        assert restorer.graphs.held, Graphs.failure
        for made, face in zip(restored, expected * 2, strict=True):
            torch.testing.assert_close(made, face, atol=1e-3, rtol=0)
        restorer.to("cpu").to(CUDA)
        assert not restorer.graphs.held
