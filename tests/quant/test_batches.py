"""Batches of any make: listed once, and copied to the model's device."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch

from quantface_core.errors import UsageError
from quantface_core.quant.batches import call, copied, listed, materialize


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


def test_tensors_are_copied_however_they_are_nested() -> None:
    x = torch.zeros(2)
    batch = copied({"a": [Pair(x, x), (x, "text")]}, torch.device("meta"))
    pair, (nested, text) = batch["a"]
    assert isinstance(pair, Pair)
    assert {pair.first.device.type, pair.second.device.type, nested.device.type} == {"meta"}
    assert text == "text"


def test_a_model_that_changes_its_input_in_place_gets_the_same_batch_every_time() -> None:
    x = torch.ones(2)
    model = torch.nn.SiLU(inplace=True)
    assert torch.equal(call(model, x), call(model, {"input": x}))
    assert torch.equal(x, torch.ones(2))


class Couple(tuple):
    """A tuple whose constructor takes its values one by one."""

    def __new__(cls, first: torch.Tensor, second: int) -> Couple:
        return super().__new__(cls, (first, second))


class Arguments(list):
    """A list whose constructor takes its values one by one."""

    def __init__(self, *values: object) -> None:
        super().__init__(values)


@pytest.mark.parametrize("kind", [Couple, Arguments])
def test_containers_of_a_class_of_their_own_hold_a_models_arguments(kind: type) -> None:
    model = torch.nn.Bilinear(1, 1, 1)
    model.forward = lambda x, times: x * times  # type: ignore[method-assign,assignment]
    assert torch.equal(call(model, kind(torch.ones(1), 2)), torch.tensor([2.0]))


@pytest.mark.parametrize("one", [torch.zeros(2, 3), {"x": torch.zeros(2)}, "faces"])
def test_one_batch_is_no_list_of_them(one: Any) -> None:
    with pytest.raises(UsageError, match="expected several batches"):
        materialize(one)
    assert materialize([one]) == [one]


def test_no_batches_are_a_list_of_none() -> None:
    assert listed(iter(())) == []
    with pytest.raises(UsageError, match="at least one batch"):
        materialize(iter(()))
