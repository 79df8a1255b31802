"""Refit a low-rank branch to absorb the error that a layer's integers leave in its output (docs/method.md, section 4).

A branch that keeps what matters leaves a residual whose errors matter little, except that rounding the weight adds
errors in all directions alike. Once the weight is rounded these are known, and the branch can cancel them along the
output directions that it spans.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels.balance import in_metric
from .compensate import column_groups, ridge


def refit_down(
    weight: Tensor, integers: Tensor, down: Tensor, up: Tensor, root: Tensor | None, x: Tensor, rounded: Tensor
) -> Tensor:
    """Refit down [rank, K] float32 to a fixed up [O, rank]: the least output error along the directions of `up`.

    weight, integers: [O, K], the balanced weight and its dequantized codes; x, rounded: rows [N, K] of the balanced
    input, exact and dequantized, on the device to compute on; root: of the output's metric, as `low_rank` takes it,
    None = all outputs count alike. A direction whose error over the rows does not fall keeps its row of `down`.
    """
    if not (torch.isfinite(x).all() and torch.isfinite(rounded).all()):
        finite = torch.isfinite(x).all(1) & torch.isfinite(rounded).all(1)
        x, rounded = x[finite], rounded[finite]
    weight, integers, down, up = (t.to(x) for t in (weight, integers, down, up))
    towards = _directions(up, None if root is None else root.to(x))
    whole, theirs = towards @ weight, towards @ integers
    # The error from rounding the weight is linear in x; of that from rounding x, the ridge finds the linear part.
    wanted, error = whole - theirs, (x - rounded) @ theirs.t()
    for columns in column_groups(weight.shape[1]):
        part = x[:, columns]
        change = ridge(part, error, part.t() @ part)
        wanted[:, columns] += change
        error = error - part @ change.t()
    exact = x @ whole.t() - rounded @ theirs.t()
    left, before = ((exact - x @ d.t()).square().sum(0) for d in (wanted, down))
    return torch.where((left < before)[:, None], wanted, down)


def _directions(up: Tensor, root: Tensor | None) -> Tensor:
    """What maps an output error [O] to its coordinates along the columns of up [O, rank] in a metric: [rank, O]."""
    in_root = up if root is None else in_metric(up, root)
    inverse = torch.linalg.pinv(in_root.cpu()).to(up)
    if root is None:
        return inverse
    return inverse @ root.t() if root.ndim == 2 else inverse * root
