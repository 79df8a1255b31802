"""Other families' networks compute what spandrel's do, and nothing in them is left in float."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from quantface_core.errors import ConfigError, ImageError, UsageError
from quantface_core.io.checkpoint import load_restorer, read_notes, save_restorer
from quantface_core.nn.swap import quant_layers
from quantface_core.quant.observe import ChannelStatistics
from quantface_core.restorer import SpandrelConfig, SpandrelRestorer
from quantface_core.restorer.spandrel.config import LICENCES
from quantface_core.stages.distill import distill
from quantface_core.stages.quantize import calibrate_restorer, quantize_restorer
from quantface_core.stages.sensitivity import measure_sensitivity
from quantface_core.types import Bits, RestorerDistillConfig, RestorerQuantConfig
from tests.published import own_output

# The quickest: what is searched is tested elsewhere.
PLAIN = {"scaling": False, "clipping": False, "block": 1, "rounding": "nearest"}


@pytest.fixture(scope="module")
def restorer(file: Path) -> SpandrelRestorer:
    loaded = load_restorer(file)
    assert isinstance(loaded, SpandrelRestorer)
    return loaded


@pytest.fixture(scope="module")
def face(restorer: SpandrelRestorer) -> torch.Tensor:
    size = restorer.config.image_size
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def statistics(restorer: SpandrelRestorer, face: torch.Tensor) -> dict[str, ChannelStatistics]:
    return calibrate_restorer(restorer, face)


@torch.no_grad()
def test_output_matches_spandrel(
    restorer: SpandrelRestorer, own: nn.Module, architecture: str, face: torch.Tensor
) -> None:
    wanted = own_output(own, architecture, face)
    assert wanted.std() > 0.1
    torch.testing.assert_close(restorer(face), wanted, rtol=0, atol=3e-3)
    assert (restorer(face) - wanted).square().mean() < 1e-6
    assert torch.equal(restorer(face), restorer(face))


def test_other_sizes_are_resized_and_non_finite_images_refused(restorer: SpandrelRestorer) -> None:
    size = restorer.config.image_size
    with torch.no_grad():
        assert restorer(torch.zeros(1, 3, 40, 50)).shape == (1, 3, size, size)
    with pytest.raises(ImageError, match="NaN"):
        restorer(torch.full((1, 3, size, size), float("nan")))


@torch.no_grad()
def test_only_codeformer_takes_a_fidelity(
    restorer: SpandrelRestorer, own: nn.Module, architecture: str, face: torch.Tensor
) -> None:
    if architecture != "CodeFormer":
        with pytest.raises(UsageError, match="no fidelity"):
            restorer(face, fidelity=0.5)
        return
    for fidelity in (0.0, 1.0):
        wanted = own_output(own, architecture, face, fidelity)
        assert (restorer(face, fidelity=fidelity) - wanted).square().mean() < 1e-6
    assert not torch.equal(restorer(face, fidelity=0.0), restorer(face, fidelity=1.0))
    with pytest.raises(UsageError, match="between 0 and 1"):
        restorer(face, fidelity=2.0)


@torch.no_grad()
def test_seeds_affect_only_gfpgan_s_noise(restorer: SpandrelRestorer, architecture: str, face: torch.Tensor) -> None:
    two = face.repeat(2, 1, 1, 1)
    drawn, plain = restorer(two, [1, 2]), restorer(face)
    assert torch.equal(restorer(face, [2]), restorer(face, [2]))
    # Batches round otherwise, a picture alone or in a batch, and codes may depend on it.
    torch.testing.assert_close(drawn[1:], restorer(face, [2]), rtol=0, atol=3e-3)
    assert torch.equal(restorer(face, [1]), plain) == (architecture != "GFPGAN")
    with pytest.raises(UsageError, match="one seed per image"):
        restorer(face, [1, 2])


@torch.no_grad()
def test_a_saved_quantized_model_computes_the_same_bits(
    restorer: SpandrelRestorer, face: torch.Tensor, statistics: dict[str, ChannelStatistics], tmp_path: Path
) -> None:
    low = copy.deepcopy(restorer)
    settings = RestorerQuantConfig(4, 4, rank=2, **PLAIN)  # type: ignore[arg-type]
    quantize_restorer(low, statistics, face, settings)
    layers = quant_layers(low)
    assert not [n for n, m in low.named_modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.MultiheadAttention)]
    assert {layer.format.bits for layer in layers.values()} == {Bits(4, 4), Bits(8, 8)}
    assert all(layer.packed.dtype == torch.uint8 for layer in layers.values())
    file = tmp_path / "low.safetensors"
    save_restorer(low, file)
    loaded = load_restorer(file)
    assert loaded.config == restorer.config
    assert torch.equal(loaded(face), low(face))
    assert read_notes(file)["licence"] == LICENCES[restorer.config.name]
    fast = load_restorer(file, dtype=torch.bfloat16)
    assert torch.isfinite(fast(face)).all()


def test_low_bit_weights_are_what_the_files_size_is_of(
    restorer: SpandrelRestorer, face: torch.Tensor, statistics: dict[str, ChannelStatistics]
) -> None:
    low = copy.deepcopy(restorer)
    settings = RestorerQuantConfig(4, 4, rank=0, edge_bits=4, **PLAIN)  # type: ignore[arg-type]
    quantize_restorer(low, statistics, face, settings)
    weights = sum(torch.Size(layer.shape).numel() for layer in quant_layers(low).values())
    assert sum(layer.packed.numel() for layer in quant_layers(low).values()) <= weights / 2 + len(quant_layers(low))


def test_w8a8_gfpgan_is_close_to_full_precision(
    restorer: SpandrelRestorer, architecture: str, face: torch.Tensor, statistics: dict[str, ChannelStatistics]
) -> None:
    """Of random weights the others' codes are as near to each other as any noise, so theirs says nothing."""
    if architecture != "GFPGAN":
        pytest.skip("random codes")
    low = copy.deepcopy(restorer)
    quantize_restorer(low, statistics, face, RestorerQuantConfig(8, 8, rank=2, **PLAIN))  # type: ignore[arg-type]
    with torch.no_grad():
        exact = restorer(face)
        assert (low(face) - exact).square().mean() < 0.01 * exact.var()
    config = RestorerDistillConfig(latent_weight=0.2, checkpointing=True)
    with pytest.raises(UsageError, match="latent_weight, checkpointing: only for one-step restorers"):
        distill(low, restorer, face, face[:0], config)


def test_sensitivities_are_measured_and_the_model_stays(
    restorer: SpandrelRestorer, face: torch.Tensor, statistics: dict[str, ChannelStatistics]
) -> None:
    model = copy.deepcopy(restorer)
    names = [n for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][:1]
    one = {n: s for n, s in statistics.items() if n in names}
    told: list[int] = []
    settings = RestorerQuantConfig(rank=0, **PLAIN)  # type: ignore[arg-type]
    measured = measure_sensitivity(model, one, face, settings, "ssim", lambda done, _: told.append(done))
    assert measured.model == restorer.config.name
    assert list(measured.layers) == names
    assert measured.layers[names[0]].error > 0
    assert told[-1] == 1000
    with torch.no_grad():
        assert torch.equal(model(face), restorer(face))


def test_a_restrictive_licence_is_announced(file: Path, architecture: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load_restorer(file)
    assert ("not for commercial use" in caplog.text) == (architecture == "CodeFormer")


def test_configurations_round_trip_and_wrong_ones_are_refused(restorer: SpandrelRestorer) -> None:
    table = restorer.config.to_dict()
    assert SpandrelConfig.from_dict(table) == restorer.config
    first = next(iter(table["sizes"]))
    for changes, told in (
        ({"architecture": "Nonsense"}, "architecture: one of"),
        ({"sizes": {}}, "sizes: a table of"),
        ({"sizes": {**table["sizes"], first: 10**9}}, f"sizes.{first}"),
        ({"sizes": {**table["sizes"], first: "64"}}, f"sizes.{first}"),
        ({"more": 1}, "architecture, and sizes"),
    ):
        with pytest.raises(ConfigError, match=told):
            SpandrelConfig.from_dict({**table, **changes})


def test_unused_weights_are_left_out(restorer: SpandrelRestorer, architecture: str) -> None:
    names = list(restorer.state_dict())
    if architecture == "GFPGAN":
        assert not [name for name in names if "toRGB" in name or "style_mlp" in name]
