"""Balance a layer's channels and split off a low-rank branch: pure functions (DESIGN.md sections 3.1, 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..types import FLOAT_BRANCH

_LARGEST_CODE = 127  # of a branch of 8 bits
_SMALLEST = 1e-5  # of a channel's share of the largest: a dead channel must not make an infinite scale


def channel_scale(activation_max: Tensor, weight: Tensor, exponent: float) -> Tensor:
    """s_c = max|x_c|^a / max|W_c|^(1-a) (section 3.1), [C] float32, with geometric mean 1.

    activation_max: [C]; weight: [O, C, ...].
    """
    x = activation_max.float()
    w = weight.float().abs().transpose(0, 1).flatten(1).amax(1)
    x, w = x.clamp_min(float(x.max()) * _SMALLEST + 1e-12), w.clamp_min(float(w.max()) * _SMALLEST + 1e-12)
    log = exponent * x.log() - (1 - exponent) * w.log()
    return (log - log.mean()).exp()


def low_rank(weight: Tensor, rank: int, seed: int, root: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The largest singular part of a weight [O, C, ...], split evenly: down [rank, C, ...], up [O, rank].

    A randomized SVD (section 3.3: A1 = S^1/2 V^T, B1 = U S^1/2); seeded, from the same numbers on every device.
    root: the output's metric is `R R^T`, R lower triangular [O, O] or diagonal [O]; what is largest by it is kept, the
    singular part of `R^T W`. None = all outputs count alike.
    """
    if root is not None:
        down, up = low_rank(in_metric(weight, root), rank, seed)
        return down, from_metric(up, root)
    flat = weight.flatten(1).float()
    width = min(rank + 8, *flat.shape)
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(flat.shape[1], width, generator=generator, dtype=torch.float32).to(flat.device)
    basis = _orthonormal(flat @ basis)
    for _ in range(3):
        basis = _orthonormal(flat @ (flat.t() @ basis))
    # On the processor, as below: torch has no SVD for Apple's GPUs.
    u, s, vt = (t.to(flat.device) for t in torch.linalg.svd((basis.t() @ flat).cpu(), full_matrices=False))
    spread = s[:rank].sqrt()
    return (spread[:, None] * vt[:rank]).reshape(-1, *weight.shape[1:]), (basis @ u[:, :rank]) * spread


def in_metric(weight: Tensor, root: Tensor) -> Tensor:
    """R^T W [O, C, ...] float32 of a weight and a metric's root, as `low_rank` takes it."""
    flat = weight.flatten(1).float()
    return (root.t() @ flat if root.ndim == 2 else root[:, None] * flat).view_as(weight)


def from_metric(up: Tensor, root: Tensor) -> Tensor:
    """R^-T U: the inverse of `in_metric`, for [O, rank]."""
    if root.ndim == 1:
        return up / root[:, None]
    # On the processor: not every device has it.
    return torch.linalg.solve_triangular(root.t().cpu(), up.cpu(), upper=True).to(up.device)


def branch_codes(half: Tensor) -> tuple[Tensor, Tensor]:
    """One half of a branch in 8 bits: [N, ...] -> (codes of that shape int8, scale [N] float32), a scale a row.

    A row's largest magnitude is a float16 number, so that values that came from codes give those codes again.
    """
    largest = half.flatten(1).float().abs().amax(1).half().float().clamp_min(torch.finfo(torch.float16).tiny)
    scale = largest / _LARGEST_CODE
    return (half.float() / _rows(scale, half)).round().clamp(-_LARGEST_CODE, _LARGEST_CODE).to(torch.int8), scale


def branch_values(codes: Tensor, scale: Tensor) -> Tensor:
    """The inverse of `branch_codes`, float16."""
    return (codes.float() * _rows(scale, codes)).half()


def stored_values(half: Tensor, bits: int) -> Tensor:
    """What one half of a branch is once stored in a width of `BRANCH_BITS`: [N, ...] float16."""
    return half.half() if bits == FLOAT_BRANCH else branch_values(*branch_codes(half))


def _rows(scale: Tensor, like: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (like.ndim - 1))


def _orthonormal(columns: Tensor) -> Tensor:
    """A basis of a few columns, found on the processor: GPUs are slow at so few."""
    return torch.linalg.qr(columns.cpu())[0].to(columns.device)
