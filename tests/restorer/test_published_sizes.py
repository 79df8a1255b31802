"""The three architectures at the sizes that are published, without memory for their weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from quantface_core.io.checkpoint import load_restorer
from quantface_core.nn.swap import quantizable
from quantface_core.restorer import SpandrelRestorer
from quantface_core.restorer.spandrel.architectures import infer_config
from tests.published import ARCHITECTURES, module_of, needs_spandrel, network, own_output, write

# Parameters of the published files, and of those what a picture needs.
MILLIONS = {"GFPGAN": (86.4, 84.3), "RestoreFormer": (72.7, 72.7), "CodeFormer": (94.1, 94.1)}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def pair(request: pytest.FixtureRequest) -> tuple[Any, SpandrelRestorer]:
    """Spandrel's own network and ours, of the same file."""
    needs_spandrel()
    with torch.device("meta"):
        own = getattr(module_of(request.param), request.param)().eval().requires_grad_(False)
        restorer = SpandrelRestorer(infer_config(request.param, own.state_dict())).eval().requires_grad_(False)
    return own, restorer


def millions(model: nn.Module) -> float:
    return sum(p.numel() for p in model.parameters()) / 1e6


@pytest.mark.filterwarnings("ignore:.*non-meta parameter.*")
def test_published_sizes_are_recognized_by_their_keys(pair: tuple[Any, SpandrelRestorer]) -> None:
    own, restorer = pair
    assert restorer.config.image_size == 512
    assert (round(millions(own), 1), round(millions(restorer), 1)) == MILLIONS[restorer.config.name]
    for name, value in restorer.config.sizes.items():
        assert tuple(own.hyperparameters[name]) == value if isinstance(value, tuple) else True


def test_less_than_a_tenth_of_the_products_stays_in_float(pair: tuple[Any, SpandrelRestorer]) -> None:
    _, restorer = pair
    low = 0

    def count(layer: nn.Module, given: Any, made: torch.Tensor) -> None:
        nonlocal low
        per_output = layer.weight[0].numel()  # type: ignore[index, union-attr, operator]
        low += made.numel() * per_output

    for layer in quantizable(restorer).values():
        layer.register_forward_hook(count)
    face = torch.zeros(1, 3, 512, 512, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        if restorer.config.name == "GFPGAN":
            restorer._gfpgan(face, None)
        else:
            restorer.network(face)
    share = 1 - low / (counter.get_total_flops() / 2)
    print(f"{restorer.config.name}: {low / 1e9:.1f} G products, {share:.2%} beside")
    assert 0 <= share < {"GFPGAN": 0.001, "RestoreFormer": 0.01, "CodeFormer": 0.01}[restorer.config.name]


@pytest.mark.skipif("QUANTFACE_SLOW" not in os.environ, reason="a minute and 3 GB: set QUANTFACE_SLOW")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_full_size_output_matches_spandrel(architecture: str, tmp_path: Path) -> None:
    needs_spandrel()
    own = network(architecture)
    restorer = load_restorer(write(own, architecture, tmp_path))
    face = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        wanted, restored = own_output(own, architecture, face), restorer(face)
    apart = (restored - wanted).abs()
    print(f"{architecture}: deviation {wanted.std():.2f}, at most {apart.max():.1e} apart, {apart.square().mean():.1e}")
    assert wanted.std() > 0.1
    assert apart.square().mean() < 1e-6
