"""What errors of a model's outputs are measured against."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from quantface_core.quant.output_error import output_scale, tensors_of


def test_the_tensors_of_a_dataclass_are_found() -> None:
    @dataclass
    class Output:
        sample: torch.Tensor
        more: tuple[torch.Tensor | None, ...]

    sample, one = torch.ones(2), torch.zeros(3)
    found = tensors_of({"output": Output(sample, (one, None, torch.tensor(3)))})
    assert [id(tensor) for tensor in found] == [id(sample), id(one)]


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
