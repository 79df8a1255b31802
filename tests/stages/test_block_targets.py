"""A block's targets are what goes through it when the whole teacher restores; parts before it run once an image."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from quantface_core.nn.swap import empty_like, quantizable, swap
from quantface_core.quant.output_error import tensors_of
from quantface_core.restorer import OneStepRestorer
from quantface_core.stages.block_targets import TeacherActivations, block_names
from quantface_core.stages.per_image import PerImage
from quantface_core.types import LayerFormat


@pytest.fixture(scope="module")
def faces() -> Tensor:
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def names(tiny: OneStepRestorer) -> list[str]:
    """The blocks of a restorer that is of low bits everywhere."""
    low = copy.deepcopy(tiny)
    swap(low, {name: empty_like(layer, LayerFormat(4, 4)) for name, layer in quantizable(low).items()})
    return block_names(low)


def test_a_blocks_targets_are_the_whole_teachers(tiny: OneStepRestorer, faces: Tensor, names: list[str]) -> None:
    seen: dict[str, list[Any]] = {}
    hooks = [
        tiny.get_submodule(name).register_forward_hook(
            lambda _, given, keywords, output, name=name: seen.update({name: [given, keywords, output]}),
            with_kwargs=True,
        )
        for name in names
    ]
    with torch.no_grad():
        tiny(faces[[2, 0]])
    for hook in hooks:
        hook.remove()
    teacher_blocks = TeacherActivations(tiny, faces)
    assert names[0] == "embedder.encoder.down.0"
    assert len(names) == len(set(names)) > 10
    for name in names:
        given, keywords, output = teacher_blocks(name, torch.tensor([2, 0]))
        assert keywords.keys() == seen[name][1].keys()
        for found, expected in ((given, seen[name][0]), (output, seen[name][2])):
            pairs = zip(tensors_of(found), tensors_of(expected), strict=True)
            for a, b in pairs:
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_the_parts_before_a_block_run_once_an_image(tiny: OneStepRestorer, faces: Tensor) -> None:
    runs: list[str] = []
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: runs.append(name))
        for name, module in (("embedder", tiny.embedder), ("encoder", tiny.vae.encoder.conv_in), ("unet", tiny.unet))
    ]
    teacher_blocks = TeacherActivations(tiny, faces)
    for indices in ([0, 1], [1, 2], [2, 0]):
        teacher_blocks("vae.decoder.mid_block", torch.tensor(indices))
    for hook in hooks:
        hook.remove()
    assert sorted(runs) == ["embedder"] * 3 + ["encoder"] * 3 + ["unet"] * 3


def test_what_is_kept_goes_to_the_teachers_device(faces: Tensor) -> None:
    teacher: Any = SimpleNamespace(device=torch.device("meta"))
    kept = PerImage(lambda _: [torch.ones(1)])
    (given,) = TeacherActivations(teacher, faces)._read(kept, torch.tensor([0, 2]))
    assert (given.device, given.shape) == (teacher.device, (2,))
