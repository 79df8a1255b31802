"""Let a low-rank branch take up what a layer's integers leave of its output (DESIGN.md section 3.3).

A branch that keeps what counts leaves integers whose errors count little, but for those of rounding the weight itself,
which lie in all directions alike. They are known once the weight is rounded, and the branch can take them back along
the directions that it has.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .compensate import column_groups, ridge


def refit_down(
    weight: Tensor, integers: Tensor, down: Tensor, up: Tensor, root: Tensor | None, x: Tensor, rounded: Tensor
) -> Tensor:
    """Another down [rank, K] float32 for an up [O, rank]: the output's least error along the directions of `up`.

    weight, integers: [O, K], balanced, and as the codes stand for it; x, rounded: rows [N, K] of the balanced input,
    exact and as the codes stand for it, on the device to compute on; root: of the output's metric, as `low_rank` takes
    it. A direction whose error over the rows does not fall keeps its row of `down`.
    """
    if not (torch.isfinite(x).all() and torch.isfinite(rounded).all()):
        finite = torch.isfinite(x).all(1) & torch.isfinite(rounded).all(1)
        x, rounded = x[finite], rounded[finite]
    weight, integers, down, up = (t.to(x) for t in (weight, integers, down, up))
    root = torch.eye(len(up)) if root is None else root if root.ndim == 2 else root.diag()
    root = root.to(x)
    towards = torch.linalg.pinv((root.t() @ up).cpu()).to(x) @ root.t()
    whole, theirs = towards @ weight, towards @ integers
    # Linear in x is what rounding the weight did, and of what rounding x did the part that the ridge finds.
    wanted, error = whole - theirs, (x - rounded) @ theirs.t()
    for columns in column_groups(weight.shape[1]):
        part = x[:, columns]
        change = ridge(part, error, part.t() @ part)
        wanted[:, columns] += change
        error = error - part @ change.t()
    exact = x @ whole.t() - rounded @ theirs.t()
    left, before = ((exact - x @ d.t()).square().sum(0) for d in (wanted, down))
    return torch.where((left < before)[:, None], wanted, down)
