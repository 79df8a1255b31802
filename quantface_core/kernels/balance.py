"""Balance a layer's channels and split off a low-rank branch: pure functions (docs/method.md, sections 2 and 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..types import FLOAT_BRANCH

_LARGEST_CODE = 127  # of an 8-bit branch
_SILENT = 5e-4  # share of the mean channel maximum up to which calibration says nothing about a channel's range
_SMALLEST = 1e-5  # least share of the largest weight: a column of zeros must not make an infinite scale


def channel_scale(activation_max: Tensor, weight: Tensor, exponent: float) -> Tensor:
    """s_c = max|x_c|^a / max|W_c|^(1-a) (section 2), [C] float32, with geometric mean 1.

    activation_max: [C]; silent channels count as typical ones (`_fill_silent`). weight: [O, C, ...].
    """
    x = _fill_silent(activation_max.float())
    w = weight.float().abs().transpose(0, 1).flatten(1).amax(1)
    w = w.clamp_min(float(w.max()) * _SMALLEST + 1e-12)
    log = exponent * x.log() - (1 - exponent) * w.log()
    return (log - log.mean()).exp()


def _fill_silent(activation_max: Tensor) -> Tensor:
    """Channel maxima [C] in which channels that calibration leaves silent have the geometric mean of the others'.

    By its own maximum, a channel silent behind a ReLU would be amplified a thousandfold, and with it the branch's
    rounding errors, on the first input that activates it.
    """
    silent = activation_max <= _SILENT * activation_max.mean()
    # By `where`, not by indexing, which would wait for a GPU. Where every maximum is zero, all are typical: 1.
    logs = activation_max.log().where(~silent, 0.0)
    return activation_max.where(~silent, (logs.sum() / (~silent).sum().clamp_min(1)).exp())


def low_rank(weight: Tensor, rank: int, seed: int, root: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The largest singular part of a weight [O, C, ...], split evenly: down [rank, C, ...], up [O, rank], float32.

    A randomized SVD (section 4: A1 = S^1/2 V^T, B1 = U S^1/2), seeded: the same random numbers on every device.
    root: R of the output's metric `R R^T`, lower triangular [O, O] or diagonal [O]: what is largest in it is kept, the
    singular part of `R^T W`. None = all outputs count alike.
    """
    if root is not None:
        down, up = low_rank(in_metric(weight, root), rank, seed)
        return down, from_metric(up, root)
    flat = weight.flatten(1).float()
    width = min(rank + 8, *flat.shape)
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(flat.shape[1], width, generator=generator, dtype=torch.float32, device="cpu").to(flat.device)
    basis = _orthonormal(flat @ basis)
    for _ in range(3):
        basis = _orthonormal(flat @ (flat.t() @ basis))
    # On the CPU, as in `_orthonormal`: torch has no SVD for Apple GPUs.
    u, s, vt = (t.to(flat.device) for t in torch.linalg.svd((basis.t() @ flat).cpu(), full_matrices=False))
    spread = s[:rank].sqrt()
    return (spread[:, None] * vt[:rank]).reshape(-1, *weight.shape[1:]), (basis @ u[:, :rank]) * spread


def branch_weight(down: Tensor, up: Tensor) -> Tensor:
    """The weight that a branch adds: down [rank, C, ...] and up [O, rank] -> [O, C, ...] float32."""
    return (up.float() @ down.flatten(1).float()).view(len(up), *down.shape[1:])


def in_metric(weight: Tensor, root: Tensor) -> Tensor:
    """R^T W [O, C, ...] float32 of a weight and the root R of a metric, as `low_rank` takes it."""
    flat = weight.flatten(1).float()
    return (root.t() @ flat if root.ndim == 2 else root[:, None] * flat).view_as(weight)


def from_metric(up: Tensor, root: Tensor) -> Tensor:
    """R^-T U: the inverse of `in_metric`, for [O, rank]."""
    if root.ndim == 1:
        return up / root[:, None]
    # On the CPU: not every device has this solver.
    return torch.linalg.solve_triangular(root.t().cpu(), up.cpu(), upper=True).to(up.device)


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """Per-row values [N] of a tensor [N, ...] in a shape that broadcasts against it: [N, 1, ...]."""
    return values.view(-1, *[1] * (like.ndim - 1))


def branch_codes(half: Tensor) -> tuple[Tensor, Tensor]:
    """One half of a branch in 8 bits: [N, ...] -> (int8 codes of that shape, per-row scale [N] float32).

    A row's largest magnitude is rounded to float16 first, so that the values of codes quantize to the same codes.
    """
    largest = half.flatten(1).float().abs().amax(1).half().float().clamp_min(torch.finfo(torch.float16).tiny)
    scale = largest / _LARGEST_CODE
    return (half.float() / per_row(scale, half)).round().clamp(-_LARGEST_CODE, _LARGEST_CODE).to(torch.int8), scale


def branch_values(codes: Tensor, scale: Tensor) -> Tensor:
    """The inverse of `branch_codes`: [N, ...] float16."""
    return (codes.float() * per_row(scale, codes)).half()


def stored_values(half: Tensor, bits: int) -> Tensor:
    """One half of a branch as it is after being stored at a width of `BRANCH_BITS`: [N, ...] float16."""
    return half.half() if bits == FLOAT_BRANCH else branch_values(*branch_codes(half))


def _orthonormal(columns: Tensor) -> Tensor:
    """An orthonormal basis of a few columns, computed on the CPU: GPUs are slow at so few."""
    return torch.linalg.qr(columns.cpu())[0].to(columns.device)
