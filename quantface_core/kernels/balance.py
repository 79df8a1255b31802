"""Balance a layer's channels and split off a low-rank branch: pure functions (DESIGN.md sections 3.1, 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

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
    flat = weight.flatten(1).float()
    if root is not None:
        flat = root.t() @ flat if root.ndim == 2 else root[:, None] * flat
    width = min(rank + 8, *flat.shape)
    basis = torch.randn(flat.shape[1], width, generator=torch.Generator().manual_seed(seed)).to(flat.device)
    basis = _orthonormal(flat @ basis)
    for _ in range(3):
        basis = _orthonormal(flat @ (flat.t() @ basis))
    # On the processor, as below: torch has no SVD for Apple's GPUs.
    u, s, vt = (t.to(flat.device) for t in torch.linalg.svd((basis.t() @ flat).cpu(), full_matrices=False))
    spread = s[:rank].sqrt()
    up, down = (basis @ u[:, :rank]) * spread, spread[:, None] * vt[:rank]
    if root is not None:
        # As above: not every device has it.
        up = (
            torch.linalg.solve_triangular(root.t().cpu(), up.cpu(), upper=True)
            if root.ndim == 2
            else up / root[:, None]
        )
    return down.reshape(-1, *weight.shape[1:]), up.to(flat.device)


def _orthonormal(columns: Tensor) -> Tensor:
    """A basis of a few columns, found on the processor: GPUs are slow at so few."""
    return torch.linalg.qr(columns.cpu())[0].to(columns.device)
