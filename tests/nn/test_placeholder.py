"""Networks ask their parameters for the dtype and device to compute in, when all of their weights are integers too."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import quantface_core as qf
from quantface_core.nn.swap import quant_layers

CONFIG = qf.QuantConfig(rank=0, block=32)


class AsksItsWeights(nn.Module):
    """Takes inputs of any dtype to that of its first parameter, and its hidden state to that of a layer's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 64, bias=False), nn.Linear(64, 32, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x.to(next(self.parameters()).dtype))
        assert hidden.dtype == self.second.weight.dtype
        return self.second(hidden)


def quantized(dtype: torch.dtype = torch.float32) -> AsksItsWeights:
    torch.manual_seed(3)
    model = AsksItsWeights().to(dtype)
    qf.quantize(model, [torch.randn(64, 32)], CONFIG)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_first_parameter_and_every_weight_have_the_models_dtype(dtype: torch.dtype) -> None:
    model, x = quantized(dtype), torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert not any(p.requires_grad or p.numel() for p in model.parameters())
    assert model(x).dtype == dtype
    assert model.to(torch.float16).first.weight.dtype == torch.float16
    assert model.first.effective_weight().dtype == model.first.weight_scale.dtype == torch.float32
    assert next(copy.deepcopy(model).parameters()).dtype == torch.float16


def test_states_and_files_hold_no_placeholder(tmp_path: Path) -> None:
    model = quantized(torch.bfloat16)
    assert not [name for name in model.state_dict() if "placeholder" in name]
    quantized().load_state_dict(model.state_dict(), strict=True)
    file = tmp_path / "model.safetensors"
    qf.save_quantized(model, file)
    loaded = qf.load_quantized(file, AsksItsWeights().to(torch.bfloat16))
    x = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    assert {(p.dtype, p.device.type) for p in loaded.parameters()} == {(torch.bfloat16, "cpu")}
    assert torch.equal(loaded(x), model(x))


def test_a_layer_filled_from_the_meta_device_is_on_its_tensors_device() -> None:
    model = quantized()
    with torch.device("meta"):
        empty = copy.deepcopy(model).to("meta")
    empty.load_state_dict(model.state_dict(), assign=True)
    assert {p.device.type for p in empty.parameters()} == {"cpu"}
    empty.to("cpu")  # which moves no tensor that is on the meta device


def wans_embedding(dtype: torch.dtype = torch.float32) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    wan = pytest.importorskip("diffusers.models.transformers.transformer_wan", reason="needs diffusers 0.33")
    torch.manual_seed(0)
    model = wan.WanTimeTextImageEmbedding(32, 32, 192, 32).to(dtype)
    return model, (torch.arange(1, 9), torch.randn(8, 4, 32).to(dtype))


def test_wans_time_embedding_asks_its_embedder() -> None:
    model, batch = wans_embedding()
    exact = model(*batch)
    qf.quantize(model, [batch], qf.QuantConfig(weight_bits=6, activation_bits=6, rank=4, block=32))
    assert {name.partition(".")[0] for name in quant_layers(model)} == {"time_embedder", "time_proj", "text_embedder"}
    for a, b in zip(exact[:3], model(*batch)[:3], strict=True):
        assert ((a - b).square().mean() / a.square().mean()).item() < 0.02


def test_layers_keep_the_dtype_while_they_are_measured_and_trained() -> None:
    full, batch = wans_embedding(torch.bfloat16)
    assert qf.measure_sensitivity(full, [batch], CONFIG, include=["time_embedder"])
    low = copy.deepcopy(full)
    qf.quantize(low, [batch], qf.QuantConfig(rank=4, block=32), include=["time_embedder"])
    asked: list[torch.dtype] = []

    def forward(model: nn.Module, given: tuple[Tensor, Tensor]) -> object:
        asked.append(next(model.time_embedder.parameters()).dtype)
        return model(*given)

    trainer = qf.TrainerConfig(steps=1, batch_size=1)
    qf.distill(low, full, [batch], config=qf.DistillConfig(trainer, rank=4, precision="float32"), forward=forward)
    assert set(asked) == {torch.bfloat16}


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("asked", [None, torch.float16])
def test_a_loaded_models_layers_have_the_dtype_of_its_other_weights(
    stored: torch.dtype, asked: torch.dtype | None, tmp_path: Path
) -> None:
    def built() -> nn.Module:
        return nn.Sequential(nn.Linear(32, 64), nn.LayerNorm(64), nn.Linear(64, 32))

    torch.manual_seed(3)
    model = built().to(stored)
    qf.quantize(model, [torch.randn(64, 32).to(stored)], CONFIG)
    qf.save_quantized(model, tmp_path / "model.safetensors")
    loaded = qf.load_quantized(tmp_path / "model.safetensors", built(), dtype=asked)
    assert {p.dtype for p in loaded.parameters()} == {asked or stored}


@pytest.mark.parametrize("buffers", [False, True])
def test_accelerate_moves_what_the_state_holds(buffers: bool) -> None:
    accelerate = pytest.importorskip("accelerate")
    model, x = quantized(), torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    exact = model(x)
    accelerate.cpu_offload(model, torch.device("cpu"), offload_buffers=buffers)
    assert torch.equal(model(x), exact)
