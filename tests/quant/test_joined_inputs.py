"""What searches see of several batches: every layer's input, once, within bounded memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from quantface_core.quant import joined_inputs
from quantface_core.quant.batches import call
from quantface_core.quant.joined_inputs import join_inputs


class Model(nn.Module):
    """A convolution whose input is modified in place, and linears: called twice, for dark images only, never called."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.twice, self.dark, self.never = (
            nn.Conv2d(3, 8, 3), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        y = self.twice(self.twice(self.conv(x).flatten(2).mT))
        x.mul_(0)
        return self.dark(y) if y.abs().mean() < 1 else y


def found(model: nn.Module, batches: list[Tensor]) -> dict[str, Tensor]:
    layers = {name: layer for name, layer in model.named_children() if isinstance(layer, nn.Conv2d | nn.Linear)}
    seen: dict[str, Tensor] = {}

    def add(name: str, layer: nn.Module, x: Tensor) -> None:
        assert name not in seen
        assert layer is layers[name]
        assert not torch.is_grad_enabled()
        seen[name] = x.clone()

    join_inputs(model, layers, batches, call, add)
    return seen


def images(count: int, size: int = 8) -> list[Tensor]:
    return list(torch.randn(count, 2, 3, size, size, generator=torch.Generator().manual_seed(0)))


def test_one_batch_is_read_as_it_is() -> None:
    model, [batch] = Model(), images(1)
    seen = found(model, [batch])
    assert torch.equal(seen["conv"], batch)
    assert torch.equal(seen["twice"], model.conv(batch).flatten(2).mT)


def test_several_batches_are_joined() -> None:
    model, batches = Model(), [*images(3), *images(1, 5)]
    seen = found(model, batches)
    assert torch.equal(seen["conv"], torch.cat(batches[:3]))  # images of another size are left out
    tokens = torch.cat([model.conv(batch).flatten(2).mT.flatten(0, 1) for batch in batches])
    assert torch.equal(seen["twice"], tokens)


def test_a_layer_gets_the_batches_that_reach_it() -> None:
    bright, dark = [100 * batch for batch in images(2)], images(2)
    assert set(found(Model(), bright)) == {"conv", "twice"}
    assert len(found(Model(), [*bright, *dark])["dark"]) == 2 * 2 * 36


@pytest.mark.parametrize("values", [1, 2000, 10_000])
def test_little_memory_takes_more_runs(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = found(Model(), images(3))
    monkeypatch.setattr(joined_inputs, "_HELD", values)
    bounded = found(Model(), images(3))
    assert set(bounded) == set(whole)
    for name, x in bounded.items():
        assert torch.equal(x, whole[name][: len(x)])
        assert x.numel() <= max(values, len(whole[name][0].flatten()) * len(whole[name]) // 3)
