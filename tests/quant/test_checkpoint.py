"""Files of quantized models: of any class, checked in full, and the restorers' as they always were."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig
from safetensors.torch import load_file
from torch import nn

import quantface_core as qf
from quantface_core.errors import ModelError, QuantFaceError, UsageError
from quantface_core.io.checkpoint import read_notes
from quantface_core.kernels import reference
from quantface_core.nn.swap import quant_layers
from quantface_core.restorer import OneStepRestorer
from tests.quant.checkpoints import CONFIG, IMAGES, ROWS, Masked, autoencoder, metadata, rewritten


def test_the_header_names_class_configuration_and_notes(file: Path, own: Path) -> None:
    assert metadata(file)["class"] == "diffusers.AutoencoderKL"
    assert json.loads(metadata(file)["config"])["block_out_channels"] == [16]
    assert read_notes(file) == {"licence": "test"}
    assert metadata(own)["class"].endswith("Masked")
    assert "config" not in metadata(own)


def test_a_skeleton_is_filled_whatever_its_weights(own: Path) -> None:
    model, skeleton = Masked(), Masked()
    qf.quantize(model, ROWS, CONFIG, exclude=["second"])
    with torch.no_grad():
        for tensor in (*skeleton.parameters(), skeleton.count):
            tensor.fill_(7)
        assert torch.equal(qf.load_quantized(own, skeleton)(ROWS[0]), model(ROWS[0]))
    assert not skeleton.training
    assert skeleton.count.dtype == torch.int64


def test_other_weights_take_the_dtype_that_is_asked(own: Path, tmp_path: Path) -> None:
    model = qf.load_quantized(own, Masked(), dtype=torch.bfloat16)
    assert model.second.weight.dtype == torch.bfloat16
    assert model.first.weight_scale.dtype == torch.float32
    qf.save_quantized(model, tmp_path / "half", torch.float16)
    assert qf.load_quantized(tmp_path / "half", Masked()).second.weight.dtype == torch.float16


def test_what_a_killed_process_left_is_removed(own: Path, tmp_path: Path) -> None:
    stale = tmp_path / ".quantface-0123456789abcdef.safetensors"
    stale.touch()
    os.utime(stale, (0, 0))
    qf.save_quantized(qf.load_quantized(own, Masked()), tmp_path / "model.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_compiled_model_is_written_and_filled_as_what_was_compiled(file: Path, own: Path, tmp_path: Path) -> None:
    model = torch.compile(autoencoder(), backend="eager")
    qf.quantize(model, IMAGES, CONFIG)
    qf.save_quantized(model, tmp_path / "compiled", notes={"licence": "test"})
    assert (tmp_path / "compiled").read_bytes() == file.read_bytes()
    filled = torch.compile(Masked(), backend="eager")
    assert qf.load_quantized(own, filled) is filled
    with torch.no_grad():
        assert torch.equal(filled(ROWS[0]), qf.load_quantized(own, Masked())(ROWS[0]))


@pytest.mark.skipif(not hasattr(AutoencoderKL, "add_adapter"), reason="this diffusers adapts no autoencoders")
def test_a_model_with_adapters_comes_back_by_a_skeleton_that_has_them(tmp_path: Path) -> None:
    def adapted() -> AutoencoderKL:
        model = autoencoder()
        torch.manual_seed(1)
        model.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
        return model.eval()

    model = adapted()
    qf.quantize(model, IMAGES, CONFIG, include=["decoder"])
    qf.save_quantized(model, tmp_path / "file")
    assert "config" not in metadata(tmp_path / "file")
    with pytest.raises(ModelError, match=r"load_quantized\(path, model="):
        qf.load_quantized(tmp_path / "file")
    with torch.no_grad():
        assert torch.equal(qf.load_quantized(tmp_path / "file", adapted())(IMAGES[0]).sample, model(IMAGES[0]).sample)


def test_a_quantized_model_is_not_filled(own: Path) -> None:
    with pytest.raises(UsageError, match="quantized already"):
        qf.load_quantized(own, qf.load_quantized(own, Masked()))


def test_a_class_that_is_not_of_diffusers_needs_a_skeleton(own: Path) -> None:
    with pytest.raises(ModelError, match="model="):
        qf.load_quantized(own)


def test_a_skeleton_of_another_architecture_is_refused_and_stays(own: Path) -> None:
    class Wider(Masked):
        def __init__(self) -> None:
            super().__init__()
            self.third = nn.Linear(2, 2)

    for model in (Wider(), nn.Sequential(nn.Linear(8, 8))):
        modules = list(model.modules())
        with pytest.raises(ModelError, match=r"missing: third|no first"):
            qf.load_quantized(own, model)
        assert list(model.modules()) == modules


def test_a_model_in_full_precision_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="quantize first"):
        qf.save_quantized(Masked(), tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_readers_send_each_other_their_files(file: Path) -> None:
    with pytest.raises(ModelError, match="load_quantized reads it"):
        qf.load_restorer(file)
    with pytest.raises(ModelError, match="load_restorer reads it"):
        qf.load_quantized(qf.restorer_path("quantface-mini-w4a4"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": None}, "not a QuantFace checkpoint"),
        ({"version": "4"}, "update QuantFace"),
        ({"class": "diffusers.os"}, "cannot be built from its file"),
        ({"class": "diffusers.DiffusionPipeline"}, "cannot be built from its file"),
        ({"class": "os.system"}, "cannot be built from its file"),
        ({"config": "["}, "not JSON"),
        ({"config": "[]"}, "not a table"),
        ({"config": '{"layers_per_block": 1000000000}'}, "layers_per_block is out of bounds"),
        ({"config": '{"block_out_channels": [16], "norm_num_groups": 7}'}, "cannot build|missing"),
        ({"config": '{"act_fn": 5}'}, "cannot build"),
        ({"class": "diffusers.MultiControlNetModel"}, "cannot be built from its file"),
        ({"layers": "{"}, "layers: not JSON"),
        ({"layers": '{"encoder.nothing": {}}'}, "the model has no"),
    ],
)
def test_lying_headers_are_refused(file: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        qf.load_quantized(rewritten(file, tmp_path / "lie", **changes))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_loaded_or_refused_never_worse(own: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(own.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
            content[place] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "fuzzed").write_bytes(content)
    with contextlib.suppress(QuantFaceError):
        qf.load_quantized(tmp_path / "fuzzed", Masked())


@pytest.mark.parametrize("name", ["quantface-mini", "quantface-mini-w4a4"])
def test_the_bundled_files_are_read_and_written_as_they_always_were(name: str, tmp_path: Path) -> None:
    """Written by the first releases: the format, and so what they compute, is the same."""
    path = qf.restorer_path(name)
    model = qf.load_restorer(path, dtype=torch.float16)
    stored = load_file(path)
    assert all(torch.equal(tensor, stored[key]) for key, tensor in model.state_dict().items())
    assert isinstance(model, OneStepRestorer)
    assert bool(quant_layers(model)) == name.endswith("w4a4")
    qf.save_restorer(model, tmp_path / "again", notes=read_notes(path))
    assert metadata(tmp_path / "again") == metadata(path)
    if quant_layers(model):  # the other is older than the order of its notes
        assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_the_named_backend_computes_a_loaded_model(tmp_path: Path) -> None:
    def net() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8)).eval()

    model, batch = net(), torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    qf.quantize(model, [batch], qf.QuantConfig(rank=2, rounding="nearest"))
    qf.save_quantized(model, tmp_path / "file")
    loaded = qf.load_quantized(tmp_path / "file", net(), backend="reference")
    assert all(isinstance(layer.kernel(), reference.Linear) for layer in quant_layers(loaded).values())
    fresh = net()
    with pytest.raises(qf.UsageError, match="unknown backend 'tpu'"):
        qf.load_quantized(tmp_path / "file", fresh, backend="tpu")
    assert not quant_layers(fresh)


def test_a_configuration_that_is_no_json_is_left_out(tmp_path: Path) -> None:
    model = autoencoder()
    model.register_to_config(kind=torch.float16)
    qf.quantize(model, IMAGES, CONFIG)
    qf.save_quantized(model, tmp_path / "file")
    with torch.no_grad():
        loaded: Any = qf.load_quantized(tmp_path / "file", autoencoder())
        assert torch.equal(loaded(IMAGES[0]).sample, model(IMAGES[0]).sample)


def test_a_skeleton_without_memory_is_filled_on_the_processor(own: Path) -> None:
    model: Any = qf.load_quantized(own, Masked().to("meta"))
    with torch.no_grad():
        assert torch.equal(model(ROWS[0]), qf.load_quantized(own, Masked())(ROWS[0]))


def test_a_class_is_no_skeleton(own: Path) -> None:
    with pytest.raises(UsageError, match=r"a model is an nn\.Module, .* got a type"):
        qf.load_quantized(own, Masked)  # type: ignore[arg-type]


def test_a_skeleton_whose_tables_have_no_values_is_refused_and_stays(tmp_path: Path) -> None:
    """As transformers' rotary positions in a model built on the meta device."""

    def build() -> nn.Module:
        model = Masked()
        model.register_buffer("positions", torch.arange(8.0), persistent=False)
        return model

    model = build()
    qf.quantize(model, ROWS, CONFIG)
    qf.save_quantized(model, tmp_path / "file")
    with torch.device("meta"):
        skeleton = build()
    with pytest.raises(UsageError, match=r"no file holds positions.* build it on the CPU"):
        qf.load_quantized(tmp_path / "file", skeleton)
    assert not quant_layers(skeleton)
