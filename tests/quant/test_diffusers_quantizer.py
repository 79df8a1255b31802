"""Loading low-bit models from diffusers' own folders: what is refused, and what goes where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from quantface_core.errors import ConfigError, ModelError, QuantFaceError, UsageError
from quantface_core.nn.swap import quant_layers

from .checkpoints import autoencoder
from .folders import LAYER, WEIGHTS, described, quantized

pytestmark = pytest.mark.usefixtures("registered")


def broken(folder: Path, source: Path, change: Any = None, **fields: Any) -> Path:
    """A copy of a folder, with its tensors or the quantizer's fields changed."""
    folder.mkdir()
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"].update(fields)
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(source / WEIGHTS)
    if change:
        change(tensors)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    return folder


def scaled_by(factor: float) -> Any:
    return lambda tensors: tensors[f"{LAYER}.weight_scale"].mul_(factor)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop(f"{LAYER}.packed"), f"tensors missing: {LAYER}.packed"),
        (lambda tensors: tensors.update({f"{LAYER}.packed": torch.zeros(3, dtype=torch.uint8)}), "has shape"),
        (
            lambda tensors: tensors.update({f"{LAYER}.weight_scale": tensors[f"{LAYER}.weight_scale"].half()}),
            "is torch.float16",
        ),
        (scaled_by(float("nan")), "not finite"),
        (scaled_by(0), "zero or negative"),
    ],
)
def test_damaged_tensors_are_refused(change: Any, said: str, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=said):
        AutoencoderKL.from_pretrained(broken(tmp_path / "broken", saved, change))


def test_a_damaged_or_newer_description_is_refused(saved: Path, tmp_path: Path) -> None:
    layers = described(saved)["layers"]
    wrong: list[tuple[type[QuantFaceError], dict[str, Any], str]] = [
        (ModelError, {"version": "9"}, "update QuantFace"),
        (ConfigError, {"layers": []}, "expected a table"),
        (ConfigError, {"layers": {**layers, "head": layers[LAYER]}}, "the model has no head"),
        (ConfigError, {"layers": {LAYER: {**layers[LAYER], "weight_bits": 99}}}, "weight_bits: from 3 to 8"),
    ]
    for index, (kind, fields, said) in enumerate(wrong):
        with pytest.raises(kind, match=said):
            AutoencoderKL.from_pretrained(broken(tmp_path / str(index), saved, **fields))


def test_a_description_without_layers_is_refused(saved: Path, tmp_path: Path) -> None:
    folder = broken(tmp_path / "broken", saved)
    config = json.loads((folder / "config.json").read_text()) | {"quantization_config": {"quant_method": "quantface"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="expected a table"):
        AutoencoderKL.from_pretrained(folder)


def test_weights_in_full_precision_are_not_quantized_by_loading(tmp_path: Path) -> None:
    from quantface_core.quant.diffusers_quantizer import LowBitConfig

    autoencoder().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="does require the model to be pre-quantized"):
        AutoencoderKL.from_pretrained(tmp_path, quantization_config=LowBitConfig())


def test_low_bit_layers_are_not_offloaded_to_disk(saved: Path) -> None:
    with pytest.raises(UsageError, match="cannot be offloaded to disk"):
        AutoencoderKL.from_pretrained(saved, device_map={"encoder": "disk", "decoder": "cpu"})


def test_tensors_go_to_their_device() -> None:
    from quantface_core.quant.diffusers_quantizer import LowBitConfig, LowBitQuantizer

    model, name = quantized(), f"{LAYER}.packed"
    state = model.state_dict()
    LowBitQuantizer(LowBitConfig()).create_quantized_param(model, state[name], name, torch.device("meta"), state)
    assert model.decoder.conv_in.packed.is_meta


def test_a_file_that_is_overwritten_changes_no_low_bit_layer(saved: Path, tmp_path: Path) -> None:
    folder = broken(tmp_path / "folder", saved)
    again = AutoencoderKL.from_pretrained(folder)
    with (folder / WEIGHTS).open("r+b") as file:
        file.write(bytes((folder / WEIGHTS).stat().st_size))
    tensors, expected = again.decoder.conv_in.state_dict(), quantized().decoder.conv_in.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors.items())


def test_without_accelerate_it_is_named(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantface_core.quant.diffusers_quantizer.is_present", lambda name: name != "accelerate")
    with pytest.raises(UsageError, match=r"need accelerate: .*install .*accelerate$"):
        AutoencoderKL.from_pretrained(saved)


def test_layers_that_diffusers_keeps_in_float32_say_so(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AutoencoderKL, "_keep_in_fp32_modules", ["encoder"])
    again = AutoencoderKL.from_pretrained(saved, torch_dtype=torch.bfloat16)
    dtypes = {name.split(".")[0]: layer.weight.dtype for name, layer in quant_layers(again).items()}
    assert dtypes["encoder"] == torch.float32
    assert dtypes["decoder"] == torch.bfloat16


def test_they_are_not_put_back_into_full_precision() -> None:
    model = quantized()
    with pytest.raises(UsageError, match="load the original"):
        model.dequantize()
    assert quant_layers(model)
