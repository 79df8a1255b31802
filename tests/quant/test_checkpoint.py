"""Files of quantized models: of any class, checked in full, and the restorers' as they always were."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import quantface_core as qf
from quantface_core.errors import ModelError, QuantFaceError, UsageError
from quantface_core.io.checkpoint import read_notes
from quantface_core.kernels import reference
from quantface_core.nn.swap import is_pointwise, quant_layers, quantizable
from quantface_core.restorer import OneStepRestorer


def autoencoder() -> AutoencoderKL:
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",), "up_block_types": ("UpDecoderBlock2D",)}
    return AutoencoderKL(**blocks, block_out_channels=(16,), norm_num_groups=4, layers_per_block=1).eval()


class Masked(nn.Module):
    """Layers of one's own, with a mask that holds infinity and a count that is whole."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.register_buffer("mask", torch.full((8,), float("-inf")))
        self.register_buffer("count", torch.tensor(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x) + self.mask.clamp_min(0)) * self.count


IMAGES = [torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1]
ROWS = [torch.randn(5, 8, generator=torch.Generator().manual_seed(0))]
CONFIG = qf.QuantConfig(rank=2)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, model = tmp_path_factory.mktemp("checkpoint") / "vae.safetensors", autoencoder()
    qf.quantize(model, IMAGES, CONFIG)
    qf.save_quantized(model, path, notes={"licence": "test"})
    return path


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, model = tmp_path_factory.mktemp("checkpoint") / "own.safetensors", Masked()
    qf.quantize(model, ROWS, CONFIG, exclude=["second"])
    qf.save_quantized(model, path)
    return path


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as opened:
        return dict(opened.metadata())


def rewritten(path: Path, target: Path, **changes: Any) -> Path:
    """The same tensors under changed metadata; None drops a field."""
    save_file(load_file(path), target, {k: v for k, v in {**metadata(path), **changes}.items() if v is not None})
    return target


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


def test_numbers_of_double_precision_are_kept(tmp_path: Path) -> None:
    class Precise(Masked):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("betas", torch.linspace(0, 1, 9, dtype=torch.float64))
            self.second.double()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x).double()) + self.betas.sum()

    model = Precise()
    qf.quantize(model, ROWS, CONFIG, exclude=["second"])
    qf.save_quantized(model, tmp_path / "file")
    loaded = qf.load_quantized(tmp_path / "file", Precise())
    assert loaded.betas.dtype == loaded.second.weight.dtype == torch.float64
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_state_that_is_no_tensor_is_refused_by_name(tmp_path: Path) -> None:
    class Extra(Masked):
        def get_extra_state(self) -> dict[str, int]:
            return {"version": 3}

        def set_extra_state(self, state: Any) -> None:
            pass

    model = Extra()
    qf.quantize(model, ROWS, CONFIG)
    with pytest.raises(ModelError, match=r"get_extra_state gives: _extra_state"):
        qf.save_quantized(model, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_a_compiled_model_is_written_and_filled_as_what_was_compiled(file: Path, own: Path, tmp_path: Path) -> None:
    model = torch.compile(autoencoder(), backend="eager")
    qf.quantize(model, IMAGES, CONFIG)
    qf.save_quantized(model, tmp_path / "compiled", notes={"licence": "test"})
    assert (tmp_path / "compiled").read_bytes() == file.read_bytes()
    filled = torch.compile(Masked(), backend="eager")
    assert qf.load_quantized(own, filled) is filled
    with torch.no_grad():
        assert torch.equal(filled(ROWS[0]), qf.load_quantized(own, Masked())(ROWS[0]))


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


def test_dtypes_and_notes_that_no_file_holds_are_refused(own: Path, tmp_path: Path) -> None:
    model: Any = qf.load_quantized(own, Masked())
    for dtype in (torch.int8, torch.float8_e4m3fn, "float16"):
        for refused in (
            lambda dtype: qf.save_quantized(model, tmp_path / "file", dtype),
            lambda dtype: qf.load_quantized(own, Masked(), dtype=dtype),
        ):
            with pytest.raises(UsageError, match=r"a dtype is torch.float64, .* or None"):
                refused(dtype)
    with pytest.raises(UsageError, match="notes are texts, not numbers or tables: steps"):
        qf.save_quantized(model, tmp_path / "file", notes={"licence": "mit", "steps": 3})  # type: ignore[dict-item]
    for name in ("family", "layers", "config", "format"):
        with pytest.raises(UsageError, match=f"these names are the format's own, give the notes others: {name}"):
            qf.save_quantized(model, tmp_path / "file", notes={"licence": "mit", name: "mine"})
    model.second.to(torch.float8_e4m3fn)
    with pytest.raises(ModelError, match=r"no file holds torch.float8_e4m3fn, give .*: second.weight, second.bias"):
        qf.save_quantized(model, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("device", ["cuda:99", "nowhere"])
def test_a_device_that_is_not_here_is_refused(own: Path, device: str) -> None:
    with pytest.raises(UsageError, match=f"the device {device} cannot be used here"):
        qf.load_quantized(own, Masked(), device=device)


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
        ({"class": "diffusers.os"}, "no model that diffusers builds"),
        ({"class": "diffusers.DiffusionPipeline"}, "no model that diffusers builds"),
        ({"class": "os.system"}, "no model that diffusers builds"),
        ({"config": "["}, "not JSON"),
        ({"config": "[]"}, "no table"),
        ({"config": '{"layers_per_block": 1000000000}'}, "layers_per_block is out of bounds"),
        ({"config": '{"block_out_channels": [16], "norm_num_groups": 7}'}, "cannot build|missing"),
        ({"layers": "{"}, "layers: not JSON"),
        ({"layers": '{"encoder.nothing": {}}'}, "the model has no"),
    ],
)
def test_lying_headers_are_refused(file: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        qf.load_quantized(rewritten(file, tmp_path / "lie", **changes))


def test_a_file_says_the_version_that_it_needs_and_earlier_releases_read_one_of_less(
    file: Path, tmp_path: Path
) -> None:
    pointwise = [name for name, layer in quantizable(autoencoder()).items() if is_pointwise(layer)]
    second, plain = tmp_path / "second.safetensors", tmp_path / "plain.safetensors"
    floats = replace(CONFIG, branch_bits=16)
    for path, config, excluded in ((second, floats, []), (plain, replace(floats, search_zero_point=False), pointwise)):
        model = autoencoder()
        qf.quantize(model, IMAGES, config, exclude=excluded)
        qf.save_quantized(model, path)
    versions, tables = zip(*map(version_and_layers, (file, second, plain)), strict=True)
    assert versions == ("3", "2", "1")
    assert ["branch_bits" in json.dumps(table) for table in tables] == [True, False, False]
    assert ["zero_point" in json.dumps(table) for table in tables] == [True, True, False]
    for path in (file, second, plain):
        loaded = qf.load_quantized(path)
        for field, absent in (("zero_point", None), ("per_pixel", False), ("branch_bits", 16)):
            stored = {name: table.get(field, absent) for name, table in version_and_layers(path)[1].items()}
            assert {n: getattr(layer.format, field) for n, layer in quant_layers(loaded).items()} == stored
    assert [n for n, table in tables[0].items() if "per_pixel" in table] == pointwise


def version_and_layers(path: Path) -> tuple[str, dict[str, Any]]:
    with safe_open(path, framework="pt") as opened:
        metadata = opened.metadata()
    return metadata["version"], json.loads(metadata["layers"])


@pytest.mark.parametrize("zero_point", [-1, 9, 1.5, "4", True])
def test_zero_points_that_are_none_are_refused(file: Path, tmp_path: Path, zero_point: Any) -> None:
    layers = version_and_layers(file)[1]
    name = next(name for name, table in layers.items() if table["activation_bits"] == 4)
    layers[name]["zero_point"] = zero_point
    with pytest.raises(ModelError, match=f"{name}.*zero.point"):
        qf.load_quantized(rewritten(file, tmp_path / "lie", layers=json.dumps(layers)))


@pytest.mark.parametrize(("pointwise", "value"), [(True, None), (True, 1), (True, "yes"), (False, True)])
def test_scales_by_pixel_are_of_pointwise_convolutions(file: Path, tmp_path: Path, pointwise: bool, value: Any) -> None:
    layers = version_and_layers(file)[1]
    name = next(name for name, table in layers.items() if ("per_pixel" in table) == pointwise)
    layers[name]["per_pixel"] = value
    with pytest.raises(ModelError, match=f"{name}.per_pixel"):
        qf.load_quantized(rewritten(file, tmp_path / "lie", layers=json.dumps(layers)))


@pytest.mark.parametrize("branch_bits", [4, 8.0, "8", None])
def test_a_branch_of_other_widths_is_refused(file: Path, tmp_path: Path, branch_bits: Any) -> None:
    layers = version_and_layers(file)[1]
    name = next(name for name, table in layers.items() if "branch_bits" in table)
    layers[name]["branch_bits"] = branch_bits
    with pytest.raises(ModelError, match=f"{name}.branch_bits"):
        qf.load_quantized(rewritten(file, tmp_path / "lie", layers=json.dumps(layers)))


@pytest.mark.parametrize("scale", ["down_scale", "up_scale"])
def test_a_branch_s_scales_are_above_zero(file: Path, tmp_path: Path, scale: str) -> None:
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith(scale))
    tensors[name][0] = 0
    with safe_open(file, framework="pt") as opened:
        save_file(tensors, tmp_path / "zero", opened.metadata())
    with pytest.raises(ModelError, match="scales are zero"):
        qf.load_quantized(tmp_path / "zero")


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


def test_an_infinite_scale_is_refused(own: Path, tmp_path: Path) -> None:
    tensors = load_file(own)
    tensors["first.weight_scale"][0] = float("inf")
    save_file(tensors, tmp_path / "file", metadata(own))
    with pytest.raises(ModelError, match=r"not finite: first\.weight_scale"):
        qf.load_quantized(tmp_path / "file", Masked())


def test_buffers_that_share_memory_in_part_are_written_apart(tmp_path: Path) -> None:
    model = Masked()
    model.register_buffer("part", model.mask[1:])
    qf.quantize(model, ROWS, CONFIG)
    qf.save_quantized(model, tmp_path / "file")
    skeleton = Masked()
    skeleton.register_buffer("part", torch.zeros(7))
    assert torch.equal(qf.load_quantized(tmp_path / "file", skeleton).part, model.part)


def test_a_state_that_is_renamed_is_refused(tmp_path: Path) -> None:
    model = Masked()
    qf.quantize(model, ROWS, CONFIG, exclude=["second"])

    def rename(module: nn.Module, state: dict[str, Any], prefix: str, local: Any) -> None:
        state["other"] = state.pop("second.weight")

    model._register_state_dict_hook(rename)
    with pytest.raises(ModelError, match=r"leaves out or renames some of its own: second\.weight"):
        qf.save_quantized(model, tmp_path / "file")


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
