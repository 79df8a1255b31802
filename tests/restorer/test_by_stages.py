"""A restorer with one stage in memory at a time."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch

from quantface_core.cli.main import main
from quantface_core.errors import ImageError, UsageError
from quantface_core.io.checkpoint import load_restorer
from quantface_core.io.models import restorer_path
from quantface_core.nn.swap import quant_layers
from quantface_core.restorer import OneStepRestorer, RestorerByStages

MINI = "quantface-mini-w4a4"


def test_one_stage_in_memory_at_a_time_gives_the_same_image() -> None:
    faces = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(1)) * 2 - 1
    path, alive, loads = restorer_path(MINI), weakref.WeakSet(), []

    def load(prefixes: tuple[str, ...]) -> OneStepRestorer:
        assert len(alive) == 0
        restorer = load_restorer(path, prefixes=prefixes)
        alive.add(restorer)
        here = {name for name, tensor in restorer.state_dict().items() if not tensor.is_meta}
        assert here
        assert all(name.startswith(prefixes) for name in here)
        loads.append(here)
        return restorer

    whole = load_restorer(path)
    by_stages = RestorerByStages(whole.config, whole.device, load)
    with torch.inference_mode():
        expected = torch.cat([whole(faces[i : i + 1], [4 + i]) for i in range(2)])
        assert torch.equal(by_stages(faces, [4, 5]), expected)
    assert set().union(*loads) == set(whole.state_dict())
    assert sum(map(len, loads)) == len(whole.state_dict())  # each tensor in one stage
    assert quant_layers(whole)


def test_it_refuses_what_the_whole_restorer_refuses(tiny: OneStepRestorer) -> None:
    by_stages = RestorerByStages(tiny.config, tiny.device, lambda only: tiny)
    with pytest.raises(ImageError, match="NaN"):
        by_stages(torch.full((1, 3, 64, 64), float("nan")))
    with pytest.raises(UsageError, match="2 seeds for 1 images"):
        by_stages(torch.zeros(1, 3, 64, 64), [1, 2])


def test_low_memory_restores_the_same_photo(photos: Path, tmp_path: Path) -> None:
    photo = str(photos / "nasa_astronaut.png")
    assert main(["restore", photo, "--output", str(tmp_path / "whole.png")]) == 0
    assert main(["restore", photo, "--output", str(tmp_path / "stages.png"), "--low-memory"]) == 0
    assert (tmp_path / "whole.png").read_bytes() == (tmp_path / "stages.png").read_bytes()
