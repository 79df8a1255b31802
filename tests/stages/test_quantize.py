"""Calibrate, balance and quantize on a tiny restorer; save, load, and compute the same picture."""

from __future__ import annotations

import contextlib
import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from quantface_core.degrade import degrade
from quantface_core.errors import ConfigError, ModelError, QuantFaceError, UsageError
from quantface_core.io.checkpoint import load_restorer, save_restorer
from quantface_core.io.models import restorer_path
from quantface_core.io.photos import read_photo
from quantface_core.kernels.dispatch import BACKENDS
from quantface_core.nn.swap import prepare, quant_layers, quantizable
from quantface_core.pipelines.checksums import images_sha256
from quantface_core.pipelines.models import LoadedModel
from quantface_core.pipelines.quantize import QuantizeRequest, quantize
from quantface_core.quant.shared_inputs import shared_input_groups
from quantface_core.restorer import OneStepRestorer
from quantface_core.stages.quantize import calibrate_restorer, quantize_restorer, restorer_formats
from quantface_core.types import LayerReport, RestorerQuantConfig
from tests.conftest import FAST

SETTINGS = RestorerQuantConfig(rank=4)


@pytest.fixture(scope="module")
def faces() -> torch.Tensor:
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


def quantized(
    tiny: OneStepRestorer, faces: torch.Tensor, settings: RestorerQuantConfig = SETTINGS
) -> tuple[OneStepRestorer, list[LayerReport]]:
    model = copy.deepcopy(tiny)
    return model, quantize_restorer(model, calibrate_restorer(model, faces), faces[:2], settings)


@pytest.fixture(scope="module")
def made(tiny: OneStepRestorer, faces: torch.Tensor) -> tuple[OneStepRestorer, list[LayerReport]]:
    return quantized(tiny, faces)


@pytest.fixture(scope="module")
def low_bit(made: tuple[OneStepRestorer, list[LayerReport]]) -> OneStepRestorer:
    return made[0]


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).square().mean())


def test_every_linear_and_convolution_becomes_integers(low_bit: OneStepRestorer) -> None:
    assert not quantizable(low_bit)
    layers = quant_layers(low_bit)
    assert layers["unet.conv_in"].format.weight_bits == 8
    assert layers["unet.mid_block.resnets.0.conv1"].format.weight_bits == 4
    assert all(layer.packed.dtype == torch.uint8 for layer in layers.values())


def test_the_method_beats_rounding_and_more_bits_beat_fewer(
    tiny: OneStepRestorer, low_bit: OneStepRestorer, faces: torch.Tensor
) -> None:
    exact = tiny(faces)
    rounded = distance(quantized(tiny, faces, replace(FAST, block=1, rank=0))[0](faces), exact)
    ours = distance(low_bit(faces), exact)
    eight = distance(quantized(tiny, faces, replace(FAST, weight_bits=8, activation_bits=8))[0](faces), exact)
    assert eight < ours < rounded


def test_layers_that_read_one_input_balance_it_alike(low_bit: OneStepRestorer) -> None:
    for group in shared_input_groups(low_bit):
        layers = [low_bit.get_submodule(name) for name in group]
        assert all(layer.kernel() for layer in layers)  # prepared
        assert len({layer.codes_key for layer in layers}) == 1


def test_reports_say_what_each_layer_gained(made: tuple[OneStepRestorer, list[LayerReport]]) -> None:
    model, reports = made
    assert {r.name for r in reports} == set(quant_layers(model))
    assert sum(r.error_after for r in reports) < 0.5 * sum(r.error_before for r in reports)


def test_backends_give_the_same_picture(low_bit: OneStepRestorer, faces: torch.Tensor) -> None:
    for name in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        device = torch.device(name)
        model, pictures = copy.deepcopy(low_bit).to(device), []
        for backend in BACKENDS.values():
            if backend.unavailable(device) is None:
                prepare(model, backend)
                pictures.append(model(faces.to(device)))
        assert all(distance(p, pictures[0]) < 4 * 10**-4.5 for p in pictures)  # 45 dB over a range of 2


def test_saved_and_loaded_gives_the_same_bits(low_bit: OneStepRestorer, faces: torch.Tensor, tmp_path: Path) -> None:
    file = tmp_path / "q.safetensors"
    save_restorer(low_bit, file, dtype=torch.float32)
    assert torch.equal(load_restorer(file)(faces), low_bit(faces))
    size = sum(p.numel() for p in low_bit.parameters()) * 4
    size += sum(b.numel() * b.element_size() for layer in quant_layers(low_bit).values() for b in layer.buffers())
    assert file.stat().st_size < 1.02 * size + 250 * len(low_bit.state_dict())


def test_a_model_keeps_its_storage_when_it_changes_dtype(low_bit: OneStepRestorer) -> None:
    moved = copy.deepcopy(low_bit).to(torch.bfloat16)
    for name, layer in quant_layers(moved).items():
        assert torch.equal(layer.weight_scale, quant_layers(low_bit)[name].weight_scale)


def test_an_interrupt_leaves_the_model_as_it_was(tiny: OneStepRestorer, faces: torch.Tensor) -> None:
    model = copy.deepcopy(tiny)
    statistics = calibrate_restorer(model, faces)

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize_restorer(model, statistics, faces[:1], SETTINGS, stop)
    assert not quant_layers(model)
    assert torch.equal(model(faces), tiny(faces))


def test_a_batch_that_gradients_are_kept_for_calibrates_too(tiny: OneStepRestorer, faces: torch.Tensor) -> None:
    batch, plain = faces.clone().requires_grad_(), replace(SETTINGS, scaling=False, clipping=False, rank=0)
    result = quantize(QuantizeRequest(LoadedModel("tiny", copy.deepcopy(tiny)), batch, plain))
    assert result.model.notes["calibration_sha256"] == images_sha256(faces)


def test_a_refused_batch_leaves_the_model_as_it_was(
    tiny: OneStepRestorer, faces: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one whose checksum cannot be had."""

    def refuse(_: torch.Tensor) -> str:
        raise UsageError("no checksum")

    monkeypatch.setattr("quantface_core.pipelines.quantize.images_sha256", refuse)
    model = copy.deepcopy(tiny)
    with pytest.raises(UsageError):
        quantize(QuantizeRequest(LoadedModel("tiny", model), faces, replace(SETTINGS, rank=0)))
    assert not quant_layers(model)


def test_the_same_seed_gives_the_same_integers(
    tiny: OneStepRestorer, low_bit: OneStepRestorer, faces: torch.Tensor
) -> None:
    a, b = quant_layers(low_bit), quant_layers(quantized(tiny, faces)[0])
    assert all(torch.equal(a[name].packed, b[name].packed) for name in a)


@pytest.mark.parametrize("change", [{"parts": ("unet", "vea")}, {"seed": 2**63 - 1}])
def test_settings_that_fit_no_model_are_refused(tiny: OneStepRestorer, change: dict) -> None:
    with pytest.raises(ConfigError, match=r"vea|seed"):
        restorer_formats(tiny, replace(RestorerQuantConfig(), **change))


def test_no_image_is_refused(tiny: OneStepRestorer) -> None:
    with pytest.raises(UsageError, match="at least one image"):
        calibrate_restorer(tiny, torch.zeros(0, 3, 64, 64))


@pytest.fixture(scope="module")
def saved(low_bit: OneStepRestorer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("low-bit") / "q.safetensors"
    save_restorer(low_bit, file)
    return file


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("weight_bits", 99, "weight_bits: from 3 to 8"),
        ("activation_bits", 0, "activation_bits: from 3 to 8"),
        ("rank", 10**12, "rank: from 0 to"),
        ("block", 7, "no rotation of 7|block: from 1"),
        ("clip", -1.0, "clip: a number"),
        ("seed", "x", "seed: from 0"),
    ],
)
def test_lying_formats_are_refused_by_field(saved: Path, tmp_path: Path, field: str, value, message: str) -> None:
    with safe_open(saved, framework="pt") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    layers = json.loads(metadata["layers"])
    layers["unet.mid_block.resnets.0.conv1"][field] = value
    broken = tmp_path / "broken.safetensors"
    save_file(tensors, broken, {**metadata, "layers": json.dumps(layers)})
    with pytest.raises(ModelError, match=message):
        load_restorer(broken)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_loaded_or_refused_never_worse(saved: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(saved.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        # Half of the flips go into the header, which is where the lies are.
        last = data.draw(st.sampled_from([4000, len(content) - 1]))
        for place in data.draw(st.lists(st.integers(0, last), min_size=1, max_size=8)):
            content[place] ^= 1 << data.draw(st.integers(0, 7))
    broken = tmp_path / "fuzzed.safetensors"
    broken.write_bytes(content)
    with contextlib.suppress(QuantFaceError):
        load_restorer(broken)


def test_the_bundled_low_bit_model_looks_like_its_original(mini: OneStepRestorer, test_faces: list[Path]) -> None:
    """At least 44 dB on degraded test faces: more than the eye can tell apart side by side."""
    low_bit = load_restorer(restorer_path("quantface-mini-w4a4"))
    layers = quant_layers(low_bit).values()
    sizes = [torch.Size(layer.shape).numel() for layer in layers]
    bits = sum(n * layer.format.weight_bits for n, layer in zip(sizes, layers, strict=True)) / sum(sizes)
    assert bits <= 4.24  # what uniform 4 bits spend, first and last layers at 8
    pictures = [degrade(read_photo(path).pixels, seed) for seed, path in enumerate(test_faces[:2])]
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert distance(low_bit(x), mini(x)) < 4 * 10**-4.4


def test_saving_twice_gives_the_same_bytes(low_bit: OneStepRestorer, tmp_path: Path) -> None:
    notes = {f"note{i}": str(i) for i in range(20)}
    for name in "ab":
        save_restorer(low_bit, tmp_path / name, notes=notes)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
