"""A model in half precision comes back as it was: its tables, and its low-bit layers where there are no others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from torch import nn

import quantface_core as qf
from quantface_core.errors import ModelError
from quantface_core.nn.swap import quant_layers
from tests.quant.checkpoints import ROWS, metadata, rewritten

CONFIG = qf.QuantConfig(rank=2, rounding="nearest", branch="svd")


def pixart() -> PixArtTransformer2DModel:
    """Its positions are a table beside its state."""
    torch.manual_seed(0)
    return PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        out_channels=8,
        num_layers=1,
        cross_attention_dim=16,
        sample_size=8,
        caption_channels=12,
        use_additional_conditions=False,
    ).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@torch.no_grad()
def test_a_loaded_model_computes_the_same_bits(dtype: torch.dtype, tmp_path: Path) -> None:
    model, draws = pixart().to(dtype), torch.Generator().manual_seed(1)
    batch = {
        "hidden_states": torch.randn(1, 4, 8, 8, generator=draws).to(dtype),
        "encoder_hidden_states": torch.randn(1, 5, 12, generator=draws).to(dtype),
        "timestep": torch.tensor([400]),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},  # asked for by diffusers 0.30
    }
    qf.quantize(model, [batch], CONFIG)
    qf.save_quantized(model, file := tmp_path / "model.safetensors")
    assert ("dtypes" in metadata(file)) == (dtype != torch.float32)
    for loaded in (qf.load_quantized(file), qf.load_quantized(file, pixart())):
        assert torch.equal(loaded(**batch)[0], model(**batch)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_model_of_low_bit_layers_alone_keeps_its_dtype(dtype: torch.dtype, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)).to(dtype)
    qf.quantize(model, [rows.to(dtype) for rows in ROWS], CONFIG)
    qf.save_quantized(model, file := tmp_path / "model.safetensors")
    skeleton = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    loaded = qf.load_quantized(file, skeleton)
    assert {p.dtype for p in loaded.parameters()} == {loaded[0].weight.dtype} == {dtype}
    skeleton = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    assert qf.load_quantized(file, skeleton, dtype=torch.float64)[0].weight.dtype == torch.float64


@pytest.mark.parametrize("given", [False, True])
@torch.no_grad()
def test_a_layer_in_another_precision_than_most_keeps_its_own(given: bool, tmp_path: Path) -> None:
    """As diffusers keeps Wan's time embedding, and transformers T5's `wo`, in float32: loaded, they were bfloat16."""
    model = pixart().bfloat16()
    model.adaln_single.emb.timestep_embedder.float()
    draws = torch.Generator().manual_seed(1)
    batch = {
        "hidden_states": torch.randn(1, 4, 8, 8, generator=draws).bfloat16(),
        "encoder_hidden_states": torch.randn(1, 5, 12, generator=draws).bfloat16(),
        "timestep": torch.tensor([400]),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
    }

    def run(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):  # its embedder does not cast for itself
            return model(**batch)[0]  # type: ignore[no-any-return]

    qf.quantize(model, [batch], CONFIG, forward=run)
    qf.save_quantized(model, file := tmp_path / "model.safetensors")
    loaded = qf.load_quantized(file, pixart() if given else None)
    dtypes = {name: layer.weight.dtype for name, layer in quant_layers(model).items()}
    assert set(dtypes.values()) == {torch.float32, torch.bfloat16}
    assert {name: layer.weight.dtype for name, layer in quant_layers(loaded).items()} == dtypes
    assert torch.equal(run(loaded, batch), run(model, batch))
    assert {layer.weight.dtype for layer in quant_layers(qf.load_quantized(file, dtype=torch.float16)).values()} == {
        torch.float16
    }


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"": "int8"}', '{"": 3}'])
def test_dtypes_that_are_none_are_refused(text: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    qf.quantize(model, ROWS, CONFIG)
    qf.save_quantized(model, file := tmp_path / "model.safetensors")
    skeleton = nn.Sequential(nn.Linear(8, 8))
    with pytest.raises(ModelError, match="dtypes"):
        qf.load_quantized(rewritten(file, tmp_path / "other", dtypes=text), skeleton)
    assert type(skeleton[0]) is nn.Linear  # as it was
