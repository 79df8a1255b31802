"""Layers whose weights are a tensor class of another library, as torchao's quantized and PyTorch's distributed ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map_only

import quantface_core as qf
from quantface_core.errors import ModelError, UsageError
from quantface_core.nn.swap import quant_layers
from tests.quant.checkpoints import IMAGES, autoencoder
from tests.quant.networks import CONFIG, network


class Wrapped(torch.Tensor):
    """A tensor that holds another and computes by it, but has no memory itself."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Wrapped:
        wrapped = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)  # type: ignore[attr-defined]
        wrapped.inner = inner
        return wrapped

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["inner"], None

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any, kwargs: Any = None) -> Any:
        result = function(*tree_map_only(Wrapped, lambda wrapped: wrapped.inner, args), **(kwargs or {}))
        return Wrapped(result) if function is torch.ops.aten.detach.default else result


def test_they_stay_and_are_named_and_no_file_is_written(images: list[torch.Tensor], tmp_path: Path) -> None:
    model = network()
    model[2].weight = nn.Parameter(Wrapped(model[2].weight.detach()), requires_grad=False)
    with pytest.warns(UserWarning, match="2 is a layer of Wrapped"):
        qf.quantize(model, images, CONFIG)
    assert set(quant_layers(model)) == {"0", "4"}
    with pytest.raises(ModelError, match=r"cannot hold Wrapped, .*: 2.weight"):
        qf.save_quantized(model, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:chosen layers stay")
def test_save_pretrained_refuses_them_before_it_writes(tmp_path: Path) -> None:
    model = autoencoder()
    layer = model.encoder.conv_out
    layer.weight = nn.Parameter(Wrapped(layer.weight.detach()), requires_grad=False)
    model.hf_quantizer = theirs = object()
    qf.quantize(model, IMAGES, CONFIG)
    assert model.hf_quantizer is theirs
    with pytest.raises(UsageError, match="save_pretrained cannot write these"):
        model.save_pretrained(tmp_path)
    assert list(tmp_path.iterdir()) == []
