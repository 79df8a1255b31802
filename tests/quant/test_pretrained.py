"""Low-bit models of diffusers' in its own folders: `save_pretrained` and `from_pretrained`."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import AutoencoderKL
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear
from safetensors.torch import load_file, save_file

import quantface_core as qf
from quantface_core.errors import ConfigError, ModelError, QuantFaceError, UsageError
from quantface_core.nn.qlinear import QuantLinear
from quantface_core.nn.swap import quant_layers

from .checkpoints import CONFIG, IMAGES, autoencoder

pytest.importorskip("accelerate", reason="diffusers loads low-bit models by accelerate")
if tuple(map(int, diffusers.__version__.split(".")[:2])) < (0, 33):
    pytest.skip("this diffusers loads no low-bit models on the CPU", allow_module_level=True)

WEIGHTS = "diffusion_pytorch_model.safetensors"
LAYER = "decoder.conv_in"


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Diffusers knows the quantizer in these tests only."""
    from diffusers.quantizers import auto

    qf.register_quantizer()
    yield
    for known in (auto.AUTO_QUANTIZER_MAPPING, auto.AUTO_QUANTIZATION_CONFIG_MAPPING):
        del known["quantface"]


@cache
def low_bit() -> AutoencoderKL:
    model = autoencoder()
    qf.quantize(model, IMAGES, CONFIG)
    return model


def quantized() -> AutoencoderKL:
    return copy.deepcopy(low_bit())


def output(model: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    with torch.no_grad():
        made: torch.Tensor = model(IMAGES[0].to(dtype)).sample
    return made


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    quantized().save_pretrained(folder)
    return folder


def test_a_model_comes_back_bit_for_bit(saved: Path) -> None:
    model, again = quantized(), AutoencoderKL.from_pretrained(saved)
    assert torch.equal(output(again), output(model))
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in again.state_dict().items())
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    assert (saved / WEIGHTS).stat().st_size < 0.5 * sum(p.numel() * 4 for p in autoencoder().parameters())


def test_its_other_weights_take_the_dtype_that_is_asked_for(saved: Path) -> None:
    again = AutoencoderKL.from_pretrained(saved, torch_dtype=torch.bfloat16)
    assert again.dtype == torch.bfloat16 == again.decoder.conv_in.weight.dtype
    assert again.decoder.conv_in.weight_scale.dtype == torch.float32
    assert again.decoder.conv_in.down.dtype == torch.int8
    model = quantized().to(torch.bfloat16)
    assert torch.equal(output(again, torch.bfloat16), output(model, torch.bfloat16))
    assert output(again.to(torch.float32)).dtype == torch.float32


@pytest.mark.parametrize("how", [{"max_shard_size": "20KB"}, {"safe_serialization": False}, {"variant": "w4a4"}])
def test_folders_of_any_kind_are_read(how: dict[str, Any], tmp_path: Path) -> None:
    model = quantized()
    model.save_pretrained(tmp_path, **how)
    assert ((tmp_path / f"{WEIGHTS}.index.json").exists()) == ("max_shard_size" in how)
    kind = {"use_safetensors": False} if "safe_serialization" in how else {}
    again = AutoencoderKL.from_pretrained(tmp_path, variant=how.get("variant"), **kind)
    assert torch.equal(output(again), output(model))


def test_a_pipeline_s_folder_holds_its_low_bit_part(tmp_path: Path) -> None:
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "block_out_channels": (16,)}
    unet = diffusers.UNet2DModel(sample_size=16, layers_per_block=1, norm_num_groups=4, **blocks).eval()
    batch = {"sample": IMAGES[0], "timestep": torch.tensor(9)}
    qf.quantize(unet, [batch], CONFIG)
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained(tmp_path)
    again = diffusers.DDPMPipeline.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(again.unet(**batch).sample, unet(**batch).sample)


def test_a_folder_and_a_file_hold_the_same_model(saved: Path, tmp_path: Path) -> None:
    file, copied = tmp_path / "model.safetensors", tmp_path / "copy.safetensors"
    qf.save_quantized(quantized(), file)
    qf.save_quantized(AutoencoderKL.from_pretrained(saved), copied)
    assert copied.read_bytes() == file.read_bytes()
    qf.load_quantized(file).save_pretrained(tmp_path / "folder")  # type: ignore[operator]
    assert (tmp_path / "folder" / WEIGHTS).read_bytes() == (saved / WEIGHTS).read_bytes()
    assert (tmp_path / "folder" / "config.json").read_bytes() == (saved / "config.json").read_bytes()


def test_copies_and_parts_of_other_models_are_saved_too(saved: Path, tmp_path: Path) -> None:
    model = low_bit()
    for index, each in enumerate((copy.deepcopy(model), pickle.loads(pickle.dumps(model)))):
        each.save_pretrained(tmp_path / str(index))
        assert (tmp_path / str(index) / WEIGHTS).read_bytes() == (saved / WEIGHTS).read_bytes()
    holder = torch.nn.ModuleDict({"vae": autoencoder()})
    qf.quantize(holder, IMAGES, CONFIG, forward=lambda holder, batch: holder["vae"](batch).sample)
    holder["vae"].save_pretrained(tmp_path / "part")  # type: ignore[operator]
    assert torch.equal(output(AutoencoderKL.from_pretrained(tmp_path / "part")), output(holder["vae"]))


def test_branches_that_were_trained_are_described_as_they_are(tmp_path: Path) -> None:
    """Distillation adds to the rank that the folder's formats name."""
    model = quantized()
    config = qf.DistillConfig(qf.TrainerConfig(steps=1, batch_size=1), rank=1)
    qf.distill(model, autoencoder(), IMAGES, config)
    assert model.decoder.conv_in.format.rank == 3
    model.save_pretrained(tmp_path)
    assert torch.equal(output(AutoencoderKL.from_pretrained(tmp_path)), output(model))


@pytest.mark.filterwarnings("ignore")
def test_adapters_are_no_part_of_it(tmp_path: Path) -> None:
    from diffusers.quantizers.base import DiffusersQuantizer

    lora = LoraConfig(r=1, target_modules=["to_q"])
    before, after = autoencoder(), quantized()
    before.add_adapter(lora)
    qf.quantize(before, IMAGES, CONFIG, include=["*to_q*"])
    with pytest.raises(UsageError, match="use save_quantized"):
        before.save_pretrained(tmp_path)
    lora._register_custom_module({QuantLinear: Linear})
    inject_adapter_in_model(lora, after, "later")
    if not hasattr(DiffusersQuantizer, "get_state_dict_and_metadata"):
        pytest.skip("this diffusers does not ask the quantizer what it saves")
    with pytest.raises(UsageError, match=r"adapters \(unload them first\): .*to_q"):
        after.save_pretrained(tmp_path)
    assert not (tmp_path / WEIGHTS).exists()


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
    layers = json.loads((saved / "config.json").read_text())["quantization_config"]["layers"]
    wrong: list[tuple[type[QuantFaceError], dict[str, Any], str]] = [
        (ModelError, {"version": "9"}, "update QuantFace"),
        (ConfigError, {"layers": []}, "expected a table"),
        (ConfigError, {"layers": {**layers, "head": layers[LAYER]}}, "the model has no head"),
        (ConfigError, {"layers": {LAYER: {**layers[LAYER], "weight_bits": 99}}}, "weight_bits: from 3 to 8"),
    ]
    for index, (kind, fields, said) in enumerate(wrong):
        with pytest.raises(kind, match=said):
            AutoencoderKL.from_pretrained(broken(tmp_path / str(index), saved, **fields))


def test_weights_in_full_precision_are_not_quantized_by_loading(tmp_path: Path) -> None:
    from quantface_core.quant.diffusers_quantizer import LowBitConfig

    autoencoder().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="does require the model to be pre-quantized"):
        AutoencoderKL.from_pretrained(tmp_path, quantization_config=LowBitConfig())


def test_low_bit_layers_are_not_offloaded_to_disk(saved: Path) -> None:
    with pytest.raises(UsageError, match="cannot be offloaded to disk"):
        AutoencoderKL.from_pretrained(saved, device_map={"encoder": "disk", "decoder": "cpu"})


def test_layers_that_diffusers_keeps_in_float32_say_so(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AutoencoderKL, "_keep_in_fp32_modules", ["encoder"])
    again = AutoencoderKL.from_pretrained(saved, torch_dtype=torch.bfloat16)
    dtypes = {name.split(".")[0]: layer.weight.dtype for name, layer in quant_layers(again).items()}
    assert dtypes["encoder"] == torch.float32
    assert dtypes["decoder"] == torch.bfloat16
