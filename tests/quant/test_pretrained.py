"""Low-bit models of diffusers' in its own folders: `save_pretrained` and `from_pretrained`."""

from __future__ import annotations

import copy
import os
import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from diffusers import AutoencoderKL
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear

import quantface_core as qf
from quantface_core.errors import UsageError
from quantface_core.nn.qlinear import QuantLinear
from quantface_core.nn.swap import quant_layers
from quantface_core.quant.pretrained import update_quantizers

from .checkpoints import CONFIG, IMAGES, autoencoder, version_and_layers
from .folders import LAYER, WEIGHTS, described, low_bit, output, quantized

pytestmark = pytest.mark.usefixtures("registered")


def test_a_model_comes_back_bit_for_bit_and_can_be_saved_again(saved: Path, tmp_path: Path) -> None:
    model, again = quantized(), AutoencoderKL.from_pretrained(saved)
    assert torch.equal(output(again), output(model))
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in again.state_dict().items())
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    again.save_pretrained(tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == (saved / WEIGHTS).read_bytes()
    assert described(tmp_path) == described(saved)
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
    assert version_and_layers(file) == (described(saved)["version"], described(saved)["layers"])
    qf.save_quantized(AutoencoderKL.from_pretrained(saved), copied)
    assert copied.read_bytes() == file.read_bytes()
    qf.load_quantized(file).save_pretrained(tmp_path / "folder")  # type: ignore[operator]
    assert (tmp_path / "folder" / WEIGHTS).read_bytes() == (saved / WEIGHTS).read_bytes()
    assert (tmp_path / "folder" / "config.json").read_bytes() == (saved / "config.json").read_bytes()


def test_push_to_hub_uploads_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    uploaded: list[str] = []
    repository = SimpleNamespace(repo_id="someone/model")
    monkeypatch.setattr("diffusers.utils.hub_utils.create_repo", lambda *_, **__: repository)
    monkeypatch.setattr(
        AutoencoderKL, "_upload_folder", lambda _, folder, *__, **___: uploaded.extend(os.listdir(folder))
    )
    quantized().push_to_hub("model")
    assert {"config.json", WEIGHTS} <= set(uploaded)


def test_copies_and_parts_of_other_models_are_saved_too(saved: Path, tmp_path: Path) -> None:
    model = low_bit()
    for index, each in enumerate((copy.deepcopy(model), pickle.loads(pickle.dumps(model)))):
        each.save_pretrained(tmp_path / str(index))
        assert (tmp_path / str(index) / WEIGHTS).read_bytes() == (saved / WEIGHTS).read_bytes()
    holder = torch.nn.ModuleDict({"vae": autoencoder(), "whole": autoencoder()})
    qf.quantize(holder, IMAGES, CONFIG, include=["vae*"], forward=lambda holder, batch: holder["vae"](batch).sample)
    holder["vae"].save_pretrained(tmp_path / "part")  # type: ignore[operator]
    assert torch.equal(output(AutoencoderKL.from_pretrained(tmp_path / "part")), output(holder["vae"]))
    assert "quantization_config" not in holder["whole"].config


def test_branches_that_were_trained_are_described_as_they_are(tmp_path: Path) -> None:
    """Distillation adds to the rank that the folder's formats name."""
    model = quantized()
    config = qf.DistillConfig(qf.TrainerConfig(steps=1, batch_size=1), rank=1)
    qf.distill(model, autoencoder(), IMAGES, config)
    assert model.decoder.conv_in.format.rank == 3
    model.save_pretrained(tmp_path)
    assert torch.equal(output(AutoencoderKL.from_pretrained(tmp_path)), output(model))


def asks_the_quantizer() -> bool:
    """Whether this diffusers asks the quantizer what it saves."""
    from diffusers.quantizers.base import DiffusersQuantizer

    return hasattr(DiffusersQuantizer, "get_state_dict_and_metadata")


def test_only_low_bit_parts_are_described_anew(tmp_path: Path) -> None:
    model, other = quantized(), autoencoder()
    model.decoder.conv_in.format = replace(model.decoder.conv_in.format, rank=1)
    other.hf_quantizer = theirs = object()  # another library's
    if asks_the_quantizer():
        with pytest.raises(UsageError, match=f"changed after quantizing.*{LAYER}"):
            model.save_pretrained(tmp_path)
    update_quantizers(torch.nn.ModuleList([model, other]))
    assert model.config.quantization_config.layers[LAYER]["rank"] == 1
    assert other.hf_quantizer is theirs


@pytest.mark.filterwarnings("ignore")
def test_adapters_are_no_part_of_it(tmp_path: Path) -> None:
    lora = LoraConfig(r=1, target_modules=["to_q"])
    before, after = autoencoder(), quantized()
    before.add_adapter(lora)
    qf.quantize(before, IMAGES, CONFIG, include=["*to_q*"])
    update_quantizers(before)
    qf.save_quantized(before, tmp_path / "file")
    filled = autoencoder()
    filled.add_adapter(lora)
    qf.load_quantized(tmp_path / "file", filled)
    for each in (before, filled):
        with pytest.raises(UsageError, match="use save_quantized"):
            each.save_pretrained(tmp_path)
    lora._register_custom_module({QuantLinear: Linear})
    inject_adapter_in_model(lora, after, "later")
    if not asks_the_quantizer():
        pytest.skip("this diffusers saves what it is given")
    with pytest.raises(UsageError, match=r"adapters \(unload them first\): .*to_q"):
        after.save_pretrained(tmp_path)
    assert not (tmp_path / WEIGHTS).exists()


def test_before_diffusers_0_33_models_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusers, "__version__", "0.33.0")
    qf.register_quantizer()
    monkeypatch.setattr(diffusers, "__version__", "0.32.2")
    with pytest.raises(UsageError, match=r'diffusers 0\.33 or later, not 0\.32\.2: .*install .*"diffusers>=0\.33"$'):
        qf.register_quantizer()
    model = autoencoder()
    qf.quantize(model, IMAGES, CONFIG)
    with pytest.raises(UsageError, match="use save_quantized"):
        model.save_pretrained(tmp_path)


def test_a_diffusers_model_s_file_fills_other_modules(tmp_path: Path) -> None:
    qf.save_quantized(quantized(), tmp_path / "file")
    parts = qf.load_quantized(tmp_path / "file", torch.nn.ModuleDict(dict(autoencoder().named_children())))
    assert quant_layers(parts).keys() == quant_layers(low_bit()).keys()
