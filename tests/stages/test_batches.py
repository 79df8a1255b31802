"""Crops go through a restorer in batches that fit its device."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from quantface_core.errors import QuantFaceError, UsageError
from quantface_core.options import RestoreOptions
from quantface_core.restorer import OneStepRestorer
from quantface_core.stages.batches import batch_memory, default_batch_size, restore_crops


def test_out_of_memory_halves_the_batch(tiny: OneStepRestorer) -> None:
    sizes = []

    class Cramped(torch.nn.Module):
        image_size, device = tiny.image_size, tiny.device

        def forward(self, images: torch.Tensor, seeds: object) -> torch.Tensor:
            sizes.append(len(images))
            if len(images) > 1:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return images

    crops = [np.full((64, 64, 3), i / 8, np.float32) for i in range(5)]
    restored = restore_crops(crops, Cramped(), RestoreOptions(batch_size=4))
    assert sizes == [4, 2, 1, 1, 1, 1, 1]
    assert np.allclose(restored, crops)
    sizes.clear()
    restore_crops(crops[:3], Cramped(), RestoreOptions(batch_size=8))
    assert sizes == [3, 1, 1, 1]  # half of what was tried


@pytest.mark.parametrize(
    ("seeds", "seed", "expected"),
    [
        ([9, 3, 3, 7, 1], None, [9, 3, 3, 7, 1]),
        (None, 20, [20, 21, 22, 23, 24]),
        ([9, 3, 3, 7, 1], 20, [9, 3, 3, 7, 1]),
    ],
)
def test_each_face_has_its_own_seed_and_progress_is_told(
    seeds: list[int] | None, seed: int | None, expected: list[int], tiny: OneStepRestorer
) -> None:
    drawn: list[int] = []
    told: list[tuple[int, int]] = []

    class Seeded(torch.nn.Module):
        image_size, device = tiny.image_size, tiny.device

        def forward(self, images: torch.Tensor, seeds: Sequence[int]) -> torch.Tensor:
            drawn.extend(seeds)
            return images

    crops, options = [np.zeros((64, 64, 3), np.float32)] * 5, RestoreOptions(batch_size=2, seed=seed)
    restore_crops(crops, Seeded(), options, lambda *numbers: told.append(numbers), seeds)
    assert drawn == expected
    assert told == [(0, 5), (2, 5), (4, 5), (5, 5)]


def test_a_single_face_is_tried_again_once_memory_is_freed(tiny: OneStepRestorer) -> None:
    """Models drop their graphs when memory runs out, and the error's feature maps are gone by then."""
    maps: list[weakref.ref[torch.Tensor]] = []

    class Cached(torch.nn.Module):
        image_size, device = tiny.image_size, tiny.device

        def forward(self, images: torch.Tensor, seeds: object) -> torch.Tensor:
            assert not any(freed() is not None for freed in maps)
            made = images.clone()
            maps.append(weakref.ref(made))
            if len(maps) % 2:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return images

    crops = [np.full((64, 64, 3), i / 8, np.float32) for i in range(2)]
    assert np.allclose(restore_crops(crops, Cached(), RestoreOptions(batch_size=1)), crops)
    assert len(maps) == 4


@pytest.mark.parametrize(
    ("device", "multiprocessors", "size", "batch"),
    [("cpu", 1, 256, 4), ("cpu", 1, 512, 1), ("cuda", 132, 512, 4), ("cuda", 28, 512, 1), ("cuda", 28, 256, 4)],
)
def test_a_face_that_fills_the_device_goes_alone(device, multiprocessors, size, batch, monkeypatch) -> None:
    monkeypatch.setattr("quantface_core.stages.batches.multiprocessors", lambda _: multiprocessors)
    assert default_batch_size(size, torch.device(device)) == batch


def test_no_memory_for_one_face_says_what_to_do(tiny: OneStepRestorer) -> None:
    class Full(torch.nn.Module):
        image_size, device = tiny.image_size, tiny.device

        def forward(self, images: torch.Tensor, seeds: object) -> torch.Tensor:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(QuantFaceError, match="a single face does not fit: out of memory on the GPU: use device cpu"):
        restore_crops([np.zeros((64, 64, 3), np.float32)] * 3, Full(), RestoreOptions())


def test_the_computer_s_own_memory_too_halves_the_batch_and_is_told_from_a_gpu_s(tiny: OneStepRestorer) -> None:
    sizes = []

    class Huge(torch.nn.Module):
        image_size, device = tiny.image_size, tiny.device

        def forward(self, images: torch.Tensor, seeds: object) -> torch.Tensor:
            sizes.append(len(images))
            return torch.empty(1 << 50)

    with pytest.raises(QuantFaceError, match="a single face does not fit: out of memory: close other programs"):
        restore_crops([np.zeros((64, 64, 3), np.float32)] * 4, Huge(), RestoreOptions(batch_size=4))
    assert sizes[:3] == [4, 2, 1]


def test_other_errors_come_through(tiny: OneStepRestorer) -> None:
    class Broken(torch.nn.Module):
        image_size, device = tiny.image_size, tiny.device

        def forward(self, images: torch.Tensor, seeds: object) -> torch.Tensor:
            raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        restore_crops([np.zeros((64, 64, 3), np.float32)] * 2, Broken(), RestoreOptions())


def test_what_batches_itself_gets_all_faces_and_smaller_batches_when_memory_is_short(tiny: OneStepRestorer) -> None:
    calls = []

    class Parts(torch.nn.Module):
        image_size, device, batches_itself = tiny.image_size, tiny.device, True

        def forward(self, images: torch.Tensor, seeds: object, batch_size: int) -> torch.Tensor:
            calls.append((len(images), batch_size))
            if batch_size > 2:
                raise RuntimeError("MPS backend out of memory")  # Apple's GPUs raise no class of their own
            return images

    crops = [np.full((64, 64, 3), i / 8, np.float32) for i in range(6)]
    assert np.allclose(restore_crops(crops, Parts(), RestoreOptions(batch_size=5)), crops)
    assert calls == [(6, 5), (6, 2)]


def test_memory_is_that_of_a_batch_and_of_graphs_not_captured_yet(
    tiny: OneStepRestorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu, one = torch.device("cuda"), tiny.working_memory
    assert batch_memory(tiny, torch.device("cpu"), faces=9, batch_size=2) == 2 * one
    assert batch_memory(tiny, gpu, faces=1, batch_size=8) == 2 * one  # graphs hold another face's
    monkeypatch.setattr(tiny, "graphs", SimpleNamespace(held=True))
    assert batch_memory(tiny, gpu, faces=1, batch_size=8) == one
    monkeypatch.setattr(tiny, "graphs", None)
    assert batch_memory(tiny, gpu, faces=3, batch_size=8) == 3 * one


@pytest.mark.parametrize(
    ("answer", "made"),
    [
        (lambda images: images[:0], r"\[0, 3, 8, 8\]"),  # once asked for the rest for ever
        (lambda images: images[..., :4], r"\[2, 3, 8, 4\]"),
        (lambda images: images.numpy(), "ndarray"),
    ],
)
def test_somebody_s_restorer_that_returns_something_else_is_named(answer: Any, made: str) -> None:
    restorer: Any = lambda images, seeds: answer(images)  # noqa: E731 it takes attributes
    restorer.image_size, restorer.device = 8, torch.device("cpu")
    with pytest.raises(UsageError, match=rf"its input's shape, \[2, 3, 8, 8\], got {made}"):
        restore_crops([np.zeros((8, 8, 3), np.float32)] * 2, restorer, RestoreOptions())


def test_a_restorer_may_answer_in_half_precision() -> None:
    restorer: Any = lambda images, seeds: images.bfloat16()  # noqa: E731
    restorer.image_size, restorer.device = 8, torch.device("cpu")
    (crop,) = restore_crops([np.full((8, 8, 3), 0.75, np.float32)], restorer, RestoreOptions())
    assert crop.dtype == np.float32
    assert (crop == 0.75).all()
