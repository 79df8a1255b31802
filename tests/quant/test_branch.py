"""What a branch takes up once the weight beside it is rounded."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quantface_core.kernels.balance import low_rank
from quantface_core.quant import compensate
from quantface_core.quant.branch import refit_down


def case(seed: int, rows: int = 600) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(weight, integers, down, up, x, rounded) with a weight and an input rounded coarsely."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(24, 32, generator=generator) * torch.linspace(0.2, 3, 24)[:, None]
    down, up = low_rank(weight, 6, 0)
    integers = ((weight - up @ down) / 0.5).round() * 0.5
    x = torch.randn(rows, 32, generator=generator)
    return weight, integers, down, up, x, (x / 0.4).round() * 0.4


def left(root: Tensor, weight: Tensor, integers: Tensor, down: Tensor, up: Tensor, x: Tensor, rounded: Tensor) -> float:
    """Squared error of the output, by the metric."""
    error = x @ weight.t() - rounded @ integers.t() - x @ (up @ down).t()
    return float((error @ root).square().mean())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.booleans())
def test_less_is_left_on_rows_that_it_has_not_seen(seed: int, diagonal: bool) -> None:
    weight, integers, down, up, x, rounded = case(seed)
    root = torch.rand(24, 24, generator=torch.Generator().manual_seed(seed)).tril() + torch.eye(24)
    if diagonal:
        root = root.diagonal()
    by = root.diag() if diagonal else root
    down, up = low_rank(weight, 6, 0, root)
    integers = ((weight - up @ down) / 0.5).round() * 0.5
    fitted = refit_down(weight, integers, down, up, root, x[:400], rounded[:400])
    unseen = (x[400:], rounded[400:])
    assert left(by, weight, integers, fitted, up, *unseen) < left(by, weight, integers, down, up, *unseen)


def test_along_its_directions_nothing_of_the_weights_rounding_is_left() -> None:
    weight, integers, down, up, x, _ = case(0)
    fitted = refit_down(weight, integers, down, up, None, x, x)
    missing = weight - integers - up @ fitted
    assert (up.t() @ missing).norm() < 1e-4 * (up.t() @ (weight - integers - up @ down)).norm()


@pytest.mark.parametrize(("largest_group", "share"), [(10, 0.7), (64, 0.4)])
def test_along_its_directions_it_makes_up_for_clipped_inputs(
    largest_group: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compensate, "LARGEST_GROUP", largest_group)
    weight, integers, down, up, x, _ = case(0, 1200)
    x = x + x[:, :1]  # columns that go together: what one group has made up for is not left to the next
    clipped = x.clamp(-0.5, 0.5)
    fitted = refit_down(weight, integers, down, up, None, x[:800], clipped[:800])
    towards = up.pinverse().t()
    before, after = (left(towards, weight, integers, d, up, x[800:], clipped[800:]) for d in (down, fitted))
    assert after < share * before


def test_a_direction_that_gains_nothing_keeps_its_row() -> None:
    weight, _, down, up, x, _ = case(0)
    exact = weight - up @ down
    assert torch.equal(refit_down(weight, exact, down, up, None, torch.zeros_like(x), torch.zeros_like(x)), down)


def test_rows_that_are_not_finite_do_not_count() -> None:
    weight, integers, down, up, x, rounded = case(0)
    keep = torch.arange(len(x)) != 3
    want = refit_down(weight, integers, down, up, None, x[keep], rounded[keep])
    for broken in (x, rounded):
        whole, broken[3] = broken[3].clone(), float("nan")
        torch.testing.assert_close(refit_down(weight, integers, down, up, None, x, rounded), want)
        broken[3] = whole


def test_a_diagonal_metric_equals_the_matrix_and_is_never_expanded_to_it() -> None:
    weight, integers, down, up, x, rounded = case(0)
    root = torch.linspace(0.2, 3, 24)
    want = refit_down(weight, integers, down, up, root.diag(), x, rounded)
    assert torch.equal(refit_down(weight, integers, down, up, root, x, rounded), want)
    wide = 1 << 20  # outputs, whose square would not fit into memory
    tall = torch.ones(wide, 1)
    refit_down(tall, tall, torch.ones(1, 1), tall, torch.ones(wide), x[:4, :1], x[:4, :1])
    refit_down(tall, tall, torch.ones(1, 1), tall, None, x[:4, :1], x[:4, :1])
