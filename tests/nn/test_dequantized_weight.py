"""`layer.weight` of low-bit layers: described at no cost, dequantized where its values are used, never changed."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantface_core.errors import UsageError
from quantface_core.nn.dequantized_weight import DequantizedWeight
from quantface_core.nn.qlayer import QuantLayer
from quantface_core.nn.stored_layer import StoredLayer
from quantface_core.nn.trainable import TrainableLayer
from tests.nn.layers import balanced


@pytest.fixture(params=[nn.Linear(24, 16), nn.Conv2d(24, 16, 3), nn.Conv2d(24, 16, 1)])
def low(request: pytest.FixtureRequest) -> QuantLayer:
    return balanced(request.param, rank=4, seed=0)[0]


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the test, nothing may be dequantized."""

    def fail(_: object) -> Tensor:
        pytest.fail("the weight was dequantized")

    monkeypatch.setattr(StoredLayer, "effective_weight", fail)
    monkeypatch.setattr(TrainableLayer, "effective_weight", fail)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.usefixtures("never")
def test_what_describes_it_takes_no_values(low: QuantLayer, trained: bool, dtype: torch.dtype) -> None:
    low.follow_dtype(dtype)
    weight = (TrainableLayer(low) if trained else low).weight
    assert (weight.dtype, weight.device, weight.layout) == (dtype, torch.device("cpu"), torch.strided)
    assert (weight.shape, weight.size(0), weight.ndim, weight.dim()) == (low.shape, 16, len(low.shape), len(low.shape))
    assert (weight.numel(), len(weight), weight.element_size()) == (torch.Size(low.shape).numel(), 16, dtype.itemsize)
    assert weight.is_floating_point()
    assert torch.is_floating_point(weight)
    assert not weight.requires_grad
    assert weight.data.dtype == weight.detach().dtype == dtype


USES: dict[str, Callable[[Tensor], Any]] = {
    "sum": torch.sum,
    "index": lambda w: w[0, :3],
    "operator": lambda w: 2 - w,
    "detached": lambda w: w.data.flatten(1) @ w.detach().flatten(1).t(),
    "keyword": lambda w: torch.add(input=w, other=w),
    "list": lambda w: torch.stack([w, w + 1]),
    "cast": lambda w: w.to(torch.float64),
    "numpy": lambda w: torch.from_numpy(w.numpy()),
    "numbers": lambda w: torch.tensor(w.tolist()),
    "copy": copy.deepcopy,
    "pickle": lambda w: pickle.loads(pickle.dumps(w)),
    "parameter": lambda w: nn.Parameter(w.clone()).detach(),
    "memory": lambda w: torch.tensor(w.untyped_storage().nbytes()),
    "into another": lambda w: torch.zeros_like(w).copy_(w),
    "vmap": lambda w: torch.func.vmap(torch.sum)(w),
}


@pytest.mark.parametrize("use", USES)
def test_any_use_is_of_the_dequantized_values(low: QuantLayer, use: str) -> None:
    made = USES[use](low.weight)
    assert type(made) is Tensor
    assert torch.equal(made, USES[use](low.effective_weight()))


def test_code_that_bypasses_torchs_functions_gets_the_values(low: QuantLayer) -> None:
    with torch._C.DisableTorchFunctionSubclass():
        assert torch.equal(torch.ops.aten.mul(low.weight, 2), 2 * low.effective_weight())


def test_it_is_computed_once_for_as_long_as_it_is_held(low: QuantLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, compute = [], type(low).effective_weight

    def counted(layer: QuantLayer) -> Tensor:
        calls.append(layer)
        return compute(layer)

    monkeypatch.setattr(type(low), "effective_weight", counted)
    weight = low.weight
    assert torch.equal(weight + 1, weight.detach() + 1)
    assert len(calls) == 1


CHANGES: dict[str, Callable[[Any], Any]] = {
    "in place": lambda layer: layer.weight.mul_(2),
    "detached": lambda layer: layer.weight.data.copy_(torch.zeros(layer.shape)),
    "operator": lambda layer: layer.weight.data.__iadd__(1),
    "item": lambda layer: layer.weight.__setitem__(0, 0.0),
    "data": lambda layer: setattr(layer.weight, "data", torch.zeros(layer.shape)),
    "initialized": lambda layer: nn.init.kaiming_uniform_(layer.weight),
    "trained": lambda layer: layer.weight.requires_grad_(),
    "parameter": lambda layer: nn.Parameter(layer.weight, requires_grad=False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_it_cannot_be_changed(low: QuantLayer, change: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be changed or trained.*clone\(\) it"):
        CHANGES[change](low)


def test_no_layer_holds_it_in_place_of_a_weight(low: QuantLayer) -> None:
    """Such an assignment does not ask the tensor assigned: without values of its own, it is refused by torch."""
    other = nn.Parameter(torch.zeros(low.shape))
    with pytest.raises(RuntimeError, match="incompatible tensor type"):
        other.data = low.weight
    other.data = low.weight.clone()
    assert torch.equal(other, low.effective_weight())


class Asking(nn.Module):
    """As T5's feed-forward, which asks for a weight's dtype, and a head that shares a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.low = balanced(nn.Linear(24, 16), rank=4, seed=0)[0]

    def forward(self, x: Tensor) -> Tensor:
        y = self.low(x.to(self.low.weight.dtype)) if isinstance(self.low.weight, Tensor) else x
        return F.linear(y, self.low.weight.t())


def test_compiled_code_may_ask_for_it_and_use_it() -> None:
    model, x = Asking(), torch.randn(3, 24, generator=torch.Generator().manual_seed(0))
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        assert torch.allclose(compiled(x), model(x), atol=1e-5)
    assert isinstance(model.low.weight, DequantizedWeight)
