"""A model's outputs beside its original's, and what their errors are measured against."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import quantface_core as qf
from quantface_core.errors import UsageError
from quantface_core.quant.output_error import output_scale, tensors_of
from tests.quant.networks import network


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


def test_fewer_bits_are_further_from_the_original_which_is_at_zero(images: list[torch.Tensor]) -> None:
    errors = {}
    for bits in (8, 6, 4):
        model = network()
        qf.quantize(model, images, qf.QuantConfig(bits, bits, rank=0))
        errors[bits] = qf.measure_error(model, network(), images)
    assert 0 < errors[8] < errors[6] < errors[4] < 0.2
    assert qf.measure_error(network(), network(), images) == 0


def test_it_is_what_distill_reports_in_decibels(images: list[torch.Tensor]) -> None:
    model, config = network(), qf.DistillConfig(qf.TrainerConfig(steps=1, batch_size=1), precision="float32")
    qf.quantize(model, images, qf.QuantConfig(3, 4, rank=2))
    error = qf.measure_error(model, network(), images)
    report = qf.distill(model, network(), images, config, val_batches=images)
    assert report.scores[0][1] == pytest.approx(-10 * math.log10(error), abs=0.01)


def test_noise_is_the_same_for_both_and_modes_stay() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.layer = nn.Dropout(0.5), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.drop(self.layer(x)) + torch.randn_like(x)  # type: ignore[no-any-return]

    model = Noisy()
    assert qf.measure_error(model, copy.deepcopy(model), [torch.ones(2, 4)] * 2) == 0
    assert model.drop.training


def test_outputs_that_cannot_be_compared_are_refused() -> None:
    model, rows = nn.Linear(4, 4), [torch.ones(2, 4)]
    with pytest.raises(UsageError, match=r"a model is an nn\.Module"):
        qf.measure_error(model, {"unet": model}, rows)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="output shapes differ"):
        qf.measure_error(model, nn.Linear(4, 3), rows)
    with pytest.raises(UsageError, match="no floating-point tensor: give a `forward`"):
        qf.measure_error(model, model, rows, forward=lambda m, x: m(x).argmax())
