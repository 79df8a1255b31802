from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from quantface_core.errors import ConfigError
from quantface_core.restorer import OneStepRestorer, RestorerConfig


@pytest.fixture
def pair(tiny: OneStepRestorer) -> tuple[OneStepRestorer, OneStepRestorer]:
    """The same weights without feature paths and with fresh ones."""
    without, with_paths = (OneStepRestorer(replace(tiny.config, feature_paths=on)).eval() for on in (False, True))
    shared = {name: t for name, t in tiny.state_dict().items() if not name.startswith("paths.")}
    without.load_state_dict(shared)
    with_paths.load_state_dict(shared, strict=False)
    return without, with_paths


def faces(model: OneStepRestorer) -> torch.Tensor:
    size = model.config.image_size
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@torch.no_grad()
def test_fresh_paths_change_nothing(pair: tuple[OneStepRestorer, OneStepRestorer]) -> None:
    without, with_paths = pair
    assert torch.allclose(with_paths(faces(without)), without(faces(without)), atol=1e-6)


@torch.no_grad()
def test_paths_bring_every_resolution_to_the_picture(pair: tuple[OneStepRestorer, OneStepRestorer]) -> None:
    without, model = pair
    x = faces(model)
    plain, size = without(x), model.config.image_size
    assert [m.shape[-1] for m in model.encode(x).maps] == [size >> i for i in range(len(model.paths) - 1)] + [
        size >> (len(model.paths) - 1)
    ]
    for path in model.paths:
        torch.nn.init.normal_(path.expand.weight, std=0.1, generator=torch.Generator().manual_seed(0))
        changed = model(x)
        assert (changed - plain).abs().max() > 1e-3
        plain = changed


def test_old_configurations_have_no_paths(tiny: OneStepRestorer) -> None:
    old = tiny.config.to_dict()
    del old["feature_paths"]
    assert not RestorerConfig.from_dict(old).feature_paths
    with pytest.raises(ConfigError, match="feature_paths"):
        RestorerConfig.from_dict({**old, "feature_paths": "yes"})
