"""PEFT's adapters stay in full precision beside low-bit layers, and what would lose either is refused."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from peft import (
    LoraConfig,
    get_peft_model,
    get_peft_model_state_dict,
    inject_adapter_in_model,
    set_peft_model_state_dict,
)
from peft.tuners import lora
from torch import nn

import quantface_core as qf
from quantface_core.errors import UsageError
from quantface_core.nn.qlinear import QuantLinear
from quantface_core.nn.swap import never_quantized, quant_layers, quantizable
from tests.quant.checkpoints import CONFIG, IMAGES, autoencoder

LORA = LoraConfig(r=2, target_modules=["0", "2"], init_lora_weights=False)
ROWS = torch.randn(9, 16, generator=torch.Generator().manual_seed(0))


def adapted() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
    inject_adapter_in_model(LORA, model, "mine")
    return model.eval()


def quantized() -> nn.Module:
    model = adapted()
    with pytest.warns(UserWarning, match=r"\(4\): 0\.lora_A\.mine is a PEFT adapter"):
        qf.quantize(model, [ROWS], qf.QuantConfig(8, 8, rank=2))
    return model


def test_the_layers_that_adapters_are_on_are_quantized_and_the_adapters_never() -> None:
    model, exact = quantized(), adapted()
    assert list(quantizable(exact)) == ["0.base_layer", "2.base_layer"] == list(quant_layers(model))
    assert set(never_quantized(exact).values()) == {"a PEFT adapter"}
    with torch.no_grad():
        assert (model(ROWS) - exact(ROWS)).norm() < 0.05 * exact(ROWS).norm()
        for each in (model, exact):
            for layer in (each[0], each[2]):  # type: ignore[index]
                layer.enable_adapters(False)
        assert (model(ROWS) - exact(ROWS)).norm() < 0.05 * exact(ROWS).norm()


def test_adapters_are_not_merged_into_integers() -> None:
    model = quantized()
    for each in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with pytest.raises(UsageError, match="fuse it before quantizing"):
            each[0].merge(safe_merge=True, adapter_names=["mine"])
    adapted()[0].merge()  # type: ignore[index]


@pytest.mark.filterwarnings("ignore:Unsupported layer type")
def test_adapters_added_to_low_bit_linears_learn_beside_them_and_are_not_merged_either() -> None:
    """As docs/python.md says: PEFT does not know these layers by itself."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16)).eval()
    qf.quantize(model, [ROWS], qf.QuantConfig(8, 8, rank=2))
    exact = model(ROWS)
    config = LoraConfig(r=2, target_modules=["0", "2"])
    config._register_custom_module({type(model[0]): lora.Linear})
    inject_adapter_in_model(config, model, "mine")
    assert torch.equal(model(ROWS), exact)  # fresh adapters change nothing
    model(ROWS).square().mean().backward()
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert sorted(learning) == [f"{i}.lora_{half}.mine.weight" for i in (0, 2) for half in "AB"]
    assert all(p.grad is not None for p in learning.values())
    for layer in (model[0], model[2]):
        with pytest.raises(UsageError, match="weight cannot be changed"):
            layer.merge()
    assert torch.equal(model(ROWS), exact)


@pytest.mark.filterwarnings("ignore:Already found", "ignore:Unsupported layer type")
def test_adapters_of_the_original_fit_where_one_was_before_quantizing() -> None:
    """As docs/python.md says: elsewhere the norm before a layer may have taken its balance over, and they do not."""
    rows = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(0))

    def block(adapter: LoraConfig | None) -> nn.Module:
        torch.manual_seed(0)
        model: nn.Module = BasicTransformerBlock(32, 2, 16).eval()
        for norm in (model.norm1, model.norm3):
            nn.init.uniform_(norm.weight, 0.2, 5)
        if adapter:
            inject_adapter_in_model(adapter, model, "first")
        return model

    trained = LoraConfig(r=4, target_modules=["to_q", "to_v", "net.0.proj"], init_lora_weights=False)
    exact = block(trained)
    state = get_peft_model_state_dict(exact, adapter_name="first")
    place = LoraConfig(r=1, target_modules=trained.target_modules)
    with torch.no_grad():
        wanted, errors = exact(rows), []
        for adapter in (place, None):
            model = block(adapter)
            qf.quantize(
                model, list(rows[:, None]), qf.QuantConfig(8, 8, rank=4), exclude=["*lora_*"] if adapter else None
            )
            trained._register_custom_module({QuantLinear: lora.Linear})
            inject_adapter_in_model(trained, model, "later")
            set_peft_model_state_dict(model, state, adapter_name="later")
            for layer in model.modules():
                if isinstance(layer, lora.LoraLayer):
                    layer.set_adapter("later")
            errors.append(float((model(rows) - wanted).norm() / wanted.norm()))
    assert errors[0] < 0.02
    assert errors[1] > 5 * errors[0]


@pytest.mark.filterwarnings("ignore:Already found", "ignore:chosen layers stay")
@pytest.mark.parametrize("layer", [nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.Conv2d(8, 16, 1)])
def test_another_adapter_fits_beside_a_low_bit_convolution_that_has_one(layer: nn.Module) -> None:
    torch.manual_seed(0)
    exact, maps = nn.Sequential(copy.deepcopy(layer)).eval(), torch.randn(2, 8, 6, 6)
    inject_adapter_in_model(LoraConfig(r=1, target_modules=["0"]), exact, "first")
    model = copy.deepcopy(exact)
    qf.quantize(model, [maps], qf.QuantConfig(8, 8, rank=2))
    later = LoraConfig(r=2, target_modules=["0"], init_lora_weights=False)
    for each in (exact, model):
        inject_adapter_in_model(later, each, "later")
    set_peft_model_state_dict(model, get_peft_model_state_dict(exact, adapter_name="later"), adapter_name="later")
    for each in (exact, model, copied := copy.deepcopy(model)):
        each[0].set_adapter("later")  # type: ignore[index,operator]
    with torch.no_grad():
        assert (model(maps) - exact(maps)).norm() < 0.02 * exact(maps).norm()
        assert torch.equal(copied(maps), model(maps))


def test_an_adapter_that_was_merged_before_cannot_be_taken_out_again() -> None:
    model = adapted()
    model[0].merge()  # type: ignore[index]
    with pytest.warns(UserWarning, match="PEFT adapter"):
        qf.quantize(model, [ROWS], qf.QuantConfig(8, 8, rank=2))
    with torch.no_grad():
        assert (model(ROWS) - adapted()(ROWS)).norm() < 0.05 * model(ROWS).norm()
    with pytest.raises(UsageError, match="unfuse it before quantizing"):
        model[0].unmerge()  # type: ignore[index]
    with pytest.warns(UserWarning, match="Already unmerged"):
        model[2].unmerge()  # type: ignore[index]


def test_transformers_models_refuse_to_be_saved_as_if_in_full_precision(tmp_path: Path) -> None:
    """Their `from_pretrained` would fill what it does not know with random weights, and only warn."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**small, image_size=16, patch_size=8)).eval()
    qf.quantize(model, IMAGES, CONFIG, include=["*fc1"])
    for each in (model, copy.deepcopy(model)):
        with pytest.raises(UsageError, match="use save_quantized"):
            each.save_pretrained(tmp_path / "lost", safe_serialization=True)
        with pytest.raises(UsageError, match="upload the file that save_quantized writes"):
            each.push_to_hub(repo_id="someone/something")
    assert not (tmp_path / "lost").exists()


def test_projections_are_fused_before_or_not_at_all() -> None:
    """Fused afterwards, an attention computed in full precision from then on, and said nothing."""
    exact, fused = autoencoder(), autoencoder()
    if not hasattr(exact, "fuse_qkv_projections"):
        pytest.skip("this diffusers fuses no projections of autoencoders")
    qf.quantize(exact, IMAGES, CONFIG)
    with torch.no_grad():
        before = exact(IMAGES[0]).sample
        with pytest.raises(UsageError, match="call it before quantize"):
            exact.fuse_qkv_projections()
        assert torch.equal(exact(IMAGES[0]).sample, before)
    fused.fuse_qkv_projections()
    with pytest.warns(UserWarning, match="to_q is a layer that no batch reached"):
        qf.quantize(fused, IMAGES, CONFIG)
    assert sum(name.endswith("to_qkv") for name in quant_layers(fused)) == 2
    fused.fuse_qkv_projections()


def test_peft_saves_its_adapters_beside_low_bit_layers(tmp_path: Path) -> None:
    model = get_peft_model(nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16)), LORA).eval()
    with pytest.warns(UserWarning, match="PEFT adapter"):
        qf.quantize(model, [ROWS], qf.QuantConfig(8, 8, rank=2))
    model.save_pretrained(str(tmp_path))
    assert (tmp_path / "adapter_model.safetensors").exists()
