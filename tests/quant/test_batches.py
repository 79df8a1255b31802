"""What errors of a model's outputs are measured against."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch

from quantface_core.errors import UsageError
from quantface_core.quant.batches import materialize, moved, output_scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_outputs_errors_are_measured_against_its_variance(dtype: torch.dtype) -> None:
    output = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).to(dtype) + 10
    assert torch.equal(output_scale(output), output.float().var(correction=0))


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (torch.tensor(-3.0), 9.0),
        (torch.full((4, 4), 0.1) + torch.eye(4) * 1e-8, 0.01),  # constant but for its rounding
        (torch.zeros(2, 3), 0.0),
        (torch.zeros(0, 3), 0.0),
    ],
)
def test_a_constant_outputs_are_measured_against_its_size(output: torch.Tensor, expected: float) -> None:
    assert float(output_scale(output)) == pytest.approx(expected)


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


def test_tensors_are_moved_however_they_are_nested() -> None:
    x = torch.zeros(2)
    batch = moved({"a": [Pair(x, x), (x, "text")]}, torch.device("meta"))
    pair, (nested, text) = batch["a"]
    assert isinstance(pair, Pair)
    assert {pair.first.device.type, pair.second.device.type, nested.device.type} == {"meta"}
    assert text == "text"


@pytest.mark.parametrize("one", [torch.zeros(2, 3), {"x": torch.zeros(2)}, "faces"])
def test_one_batch_is_no_list_of_them(one: Any) -> None:
    with pytest.raises(UsageError, match="batches are several"):
        materialize(one)
    assert materialize([one]) == [one]
