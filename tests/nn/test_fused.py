"""Only what a fused kernel computes is left to it: any other norm runs by itself, ahead of the layer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from quantface_core.errors import UsageError
from quantface_core.nn import fused
from quantface_core.nn.qlinear import project
from tests.nn.layers import balanced


class RootMeanSquare(nn.Module):
    """Not a layer norm, though it has all the tensors of one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = nn.Parameter(torch.ones(16)), nn.Parameter(torch.zeros(16)), 1e-6

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + self.eps).sqrt() * self.weight + self.bias


class GroupedRoots(RootMeanSquare):
    """The same over channels of maps."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


NORMS: dict[str, Callable[[], nn.Module]] = {
    "another kind": RootMeanSquare,
    "no weight": lambda: nn.LayerNorm(16, elementwise_affine=False),
    "no bias": lambda: nn.LayerNorm(16, bias=False),
}


@pytest.mark.parametrize("norm", NORMS)
@torch.no_grad()
def test_a_norm_that_kernels_do_not_compute_runs_before_linears(norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "fuses", lambda _: True)
    layer, x, made = balanced(nn.Linear(16, 8), 2, 0)[0], torch.randn(3, 16), NORMS[norm]()
    assert torch.equal(fused.norm_linear([layer], made, x)[0], layer(made(x)))
    with pytest.raises(UsageError, match="whose kernels fuse"):  # it would have been left to the kernel
        fused.norm_linear([layer], nn.LayerNorm(16), x)


@pytest.mark.parametrize("norm", [GroupedRoots(), nn.GroupNorm(4, 16, affine=False)])
@torch.no_grad()
def test_a_norm_that_kernels_do_not_compute_runs_before_a_convolution(
    norm: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "fuses", lambda _: True)
    layer, x = balanced(nn.Conv2d(16, 8, 3), 2, 0)[0], torch.randn(2, 16, 5, 6)
    assert torch.equal(fused.norm_conv(layer, norm, nn.SiLU(), x), layer(nn.functional.silu(norm(x))))


def test_without_a_norm_layers_are_projected_as_they_are() -> None:
    layers, x = [balanced(nn.Linear(16, 8), 2, seed)[0] for seed in (0, 1)], torch.randn(3, 16)
    assert all(map(torch.equal, fused.norm_linear(layers, None, x), project(layers, x)))
