"""Feature paths from the encoder to the decoder."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from quantface_core.errors import ConfigError
from quantface_core.restorer import OneStepRestorer, RestorerConfig


@pytest.fixture
def pair(tiny: OneStepRestorer) -> tuple[OneStepRestorer, OneStepRestorer]:
    """The same weights without feature paths and with fresh ones."""
    without, with_paths = (
        OneStepRestorer(replace(tiny.config, feature_paths=on, residual=False)).eval() for on in (False, True)
    )
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
def test_paths_pass_every_resolution_to_the_output(pair: tuple[OneStepRestorer, OneStepRestorer]) -> None:
    without, model = pair
    x = faces(model)
    plain, size = without(x), model.config.image_size
    assert [m.shape[-1] for m in model.encode(x).maps] == [size >> i for i in range(len(model.paths) - 1)] + [
        size >> (len(model.paths) - 1)
    ]
    for path in model.paths:
        path.expand.weight.data.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
        changed = model(x)
        assert (changed - plain).abs().max() > 1e-3
        plain = changed


@torch.no_grad()
@pytest.mark.parametrize("with_paths", [False, True])
def test_a_residual_decoder_predicts_the_change(tiny: OneStepRestorer, with_paths: bool) -> None:
    plain, residual = (
        OneStepRestorer(replace(tiny.config, feature_paths=with_paths, residual=on)).eval() for on in (False, True)
    )
    residual.load_state_dict(plain.state_dict())
    x = faces(tiny)
    prompt = plain.embedder(x)
    decoded = plain.decode(plain.predict(plain.encode(x), prompt))
    assert torch.allclose(residual(x), (x + decoded).clamp(-1, 1), atol=1e-6)
    torch.nn.init.zeros_(residual.vae.decoder.conv_out.weight)
    torch.nn.init.zeros_(residual.vae.decoder.conv_out.bias)
    assert torch.equal(residual(x), x)


def test_old_configurations_have_no_paths(tiny: OneStepRestorer) -> None:
    old = tiny.config.to_dict()
    for name in ("feature_paths", "residual"):
        old.pop(name, None)
    read = RestorerConfig.from_dict(old)
    assert not read.feature_paths
    assert not read.residual
    assert read.to_dict() == old
    for name in ("feature_paths", "residual"):
        with pytest.raises(ConfigError, match=name):
            RestorerConfig.from_dict({**old, name: "yes"})
