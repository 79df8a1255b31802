"""Captured images on a real GPU: those that the kernels compute when launched one by one."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from quantface_core import load_restorer, restorer_path
from quantface_core.nn.graphs import Graphs, without_graphs
from quantface_core.restorer import OneStepRestorer

CUDA = torch.device("cuda")
needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available() or torch.version.cuda is None, reason="needs an NVIDIA GPU"
)


def low_bits(_: OneStepRestorer) -> OneStepRestorer:
    restorer = load_restorer(restorer_path("quantface-mini-w4a4"), CUDA)
    assert isinstance(restorer, OneStepRestorer)
    return restorer


def full_precision(tiny: OneStepRestorer) -> OneStepRestorer:
    return copy.deepcopy(tiny).to(CUDA)


def pictures(restorer: OneStepRestorer, count: int) -> list[torch.Tensor]:
    size = restorer.config.image_size
    return [torch.rand(1, 3, size, size, device=CUDA) * 2 - 1 for _ in range(count)]


@needs_cuda
@pytest.mark.parametrize(("made", "atol"), [(full_precision, 1e-3), (low_bits, 0.02)])
@torch.inference_mode()
def test_replayed_faces_are_those_of_separate_launches(
    made: Callable[[OneStepRestorer], OneStepRestorer], atol: float, tiny: OneStepRestorer
) -> None:
    """Also after the model moved, and after a batch ran between two replays."""
    restorer = made(tiny)
    faces = pictures(restorer, 4)
    with without_graphs():
        expected = [restorer(face) for face in faces]
    for _ in range(2):
        restored = [restorer(face).clone() for face in faces]
        restorer(torch.cat(faces))
        restored += [restorer(face).clone() for face in faces]
        assert restorer.graphs.held, Graphs.failure
        for found, face in zip(restored, expected * 2, strict=True):
            torch.testing.assert_close(found, face, atol=atol, rtol=0)
        restorer.to("cpu").to(CUDA)
        assert not restorer.graphs.held


@needs_cuda
@torch.inference_mode()
def test_faces_on_several_streams_do_not_mix(tiny: OneStepRestorer) -> None:
    """The parts' inputs and results lie in the same tensors, whichever stream a face runs on."""
    restorer = full_precision(tiny)
    faces, streams = pictures(restorer, 12), [torch.cuda.Stream() for _ in range(3)]
    with without_graphs():
        expected = [restorer(face) for face in faces]
    torch.cuda.synchronize()
    for _ in range(3):
        found = []
        for number, face in enumerate(faces):
            with torch.cuda.stream(streams[number % 3]):
                found.append(restorer(face))
        torch.cuda.synchronize()
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)
    assert restorer.graphs.held, Graphs.failure
