"""Models of diffusers are built from their file alone, with the tables that only their constructors compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import PixArtTransformer2DModel
from torch import nn

import quantface_core as qf
from quantface_core.errors import ModelError
from quantface_core.quant.diffusers_model import build
from tests.quant.checkpoints import metadata

CONFIG = qf.QuantConfig(rank=2, rounding="nearest", branch="svd")
PIXART = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1, "cross_attention_dim": 16}


def lumina() -> nn.Module:
    """Its rotary positions are tables in a list, an attribute of a module."""
    if not hasattr(diffusers, "Lumina2Transformer2DModel"):
        pytest.skip("this diffusers has no Lumina 2")
    torch.manual_seed(0)
    positions = {"axes_dim_rope": (4, 2, 2), "axes_lens": (128, 128, 128)}
    heads = {"num_attention_heads": 3, "num_kv_heads": 1, "multiple_of": 2}
    sizes = {"in_channels": 4, "hidden_size": 24, "num_layers": 1, "num_refiner_layers": 1, "cap_feat_dim": 32}
    model: nn.Module = diffusers.Lumina2Transformer2DModel(**positions, **heads, **sizes).eval()
    return model


@torch.no_grad()
def test_tables_in_lists_are_computed_anew(tmp_path: Path) -> None:
    """They stayed without values, and the first call of the loaded model failed."""
    model, draws = lumina(), torch.Generator().manual_seed(1)
    batch = {
        "hidden_states": torch.randn(1, 4, 8, 8, generator=draws),
        "encoder_hidden_states": torch.randn(1, 6, 32, generator=draws),
        "timestep": torch.tensor([0.5]),
        "encoder_attention_mask": torch.ones(1, 6, dtype=torch.bool),
    }
    qf.quantize(model, [batch], CONFIG)
    qf.save_quantized(model, file := tmp_path / "model.safetensors")
    assert torch.equal(qf.load_quantized(file)(**batch)[0], model(**batch)[0])


def described(model: Any) -> dict[str, str]:
    config = {key: value for key, value in model.config.items() if not key.startswith("_")}
    return {"class": f"diffusers.{type(model).__name__}", "config": json.dumps(config)}


def test_only_tables_take_memory_while_a_model_is_built() -> None:
    """Weights come from the file: drawing them first took seconds and the memory of full precision."""
    model = PixArtTransformer2DModel(**PIXART)
    built = build(Path("file"), described(model))
    assert all(p.is_meta for p in built.parameters())
    table = "pos_embed.pos_embed"
    assert torch.equal(built.get_buffer(table), model.get_buffer(table))


def test_tables_computed_from_weights_have_values(monkeypatch: pytest.MonkeyPatch) -> None:
    class Doubled(diffusers.ModelMixin, diffusers.ConfigMixin):
        config_name = "config.json"

        @diffusers.configuration_utils.register_to_config
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))
            self.doubled = self.weight.detach() * 2

    monkeypatch.setattr(diffusers, "Doubled", Doubled, raising=False)
    assert build(Path("file"), described(Doubled())).doubled.tolist() == [2, 2, 2]  # type: ignore[union-attr,operator]


def test_positions_may_have_any_base() -> None:
    """Cosmos 3 sets 10^8; it is no size that would take long to build."""
    build(Path("file"), {"class": "diffusers.AutoencoderKL", "config": '{"rope_theta": 1e8}'})


def test_a_configuration_that_would_be_refused_is_not_written(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = PixArtTransformer2DModel(**PIXART, caption_channels=12, sample_size=8)
    model.register_to_config(norm_eps=1e-6, interpolation_scale=1e9)
    batch = {
        "hidden_states": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)),
        "encoder_hidden_states": torch.ones(1, 5, 12),
        "timestep": torch.tensor([400]),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
    }
    qf.quantize(model, [batch], CONFIG)
    qf.save_quantized(model, file := tmp_path / "model.safetensors")
    assert "config" not in metadata(file)


@torch.no_grad()
def test_a_model_that_no_configuration_builds_comes_back_by_a_skeleton(tmp_path: Path) -> None:
    """Saving several adapters in one, as pipelines take them, raised an AttributeError."""

    def adapters() -> nn.Module:
        each = {"channels": [8, 8], "num_res_blocks": 1, "downscale_factor": 2, "adapter_type": "light_adapter"}
        torch.manual_seed(0)
        return diffusers.MultiAdapter([diffusers.T2IAdapter(**each) for _ in range(2)]).eval()  # type: ignore[no-any-return]

    model = adapters()
    batch = torch.rand(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    qf.quantize(model, [(batch,)], CONFIG)
    qf.save_quantized(model, file := tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"load_quantized\(path, model="):
        qf.load_quantized(file)
    loaded = qf.load_quantized(file, adapters())
    assert all(torch.equal(made, wanted) for made, wanted in zip(loaded(batch), model(batch), strict=True))
