"""The settings of low-rank updates: how much a pair counts, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from quantface_core.errors import ModelError
from quantface_core.io.lora import find_lora_pairs
from quantface_core.io.tensor_files import open_tensors


def scales(path: Path, settings: object, rank: int = 2, more: dict[str, Tensor] | None = None) -> list[float]:
    pair = {"unet.conv.lora_A.weight": torch.ones(rank, 4), "unet.conv.lora_B.weight": torch.ones(4, rank)}
    save_file({**pair, **(more or {})}, path, {"lora_adapter_metadata": json.dumps(settings)})
    with open_tensors(path) as file:
        return [found.scale for found in find_lora_pairs(file).values()]


@pytest.mark.parametrize(
    ("alpha", "scale"),
    [
        ({}, 1),
        ({"unet.lora_alpha": 8}, 4),
        ({"unet.lora_alpha": 0}, 0),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"conv": 6}}, 3),
        ({"unet.lora_alpha": 8, "unet.use_rslora": True}, 4 * 2**0.5),
    ],
)
def test_the_settings_of_a_lora_say_how_much_it_counts(alpha: dict[str, object], scale: float, tmp_path: Path) -> None:
    assert scales(tmp_path / "lora.safetensors", alpha) == [pytest.approx(scale)]


@pytest.mark.parametrize(
    "settings",
    [
        [],
        {"unet.lora_alpha": "x"},
        {"unet.lora_alpha": float("nan")},
        {"unet.lora_alpha": 10**400},
        {"unet.alpha_pattern": {"(": 3}},
        {"unet.alpha_pattern": {"conv": None}},
        {"unet.alpha_pattern": [3]},
    ],
)
def test_settings_of_a_lora_that_are_none_are_refused(settings: object, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"lora\.safetensors: damaged, its lora_adapter_metadata cannot be used"):
        scales(tmp_path / "lora.safetensors", settings)


@pytest.mark.parametrize(
    ("rank", "alphas", "words"),
    [(0, 1, r"unet\.conv\.lora_A\.weight \[0, 4\] has no rank"), (2, 3, r"unet\.conv\.alpha \[3\] is not a single")],
)
def test_a_lora_without_a_rank_or_with_many_alphas_is_refused(
    rank: int, alphas: int, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=rf"lora\.safetensors: damaged, {words}"):
        scales(tmp_path / "lora.safetensors", {}, rank, {"unet.conv.alpha": torch.ones(alphas)})
