"""Round a weight so that its errors cancel in the output, not one by one (DESIGN.md section 3.2).

A layer reads inputs X rounded, as X^; over rows of both, the output's error with the weight W rounded to Q is
`X W^T - X^ Q^T`. Two things make it smaller than rounding to nearest does, both by the columns' second moments
`H = X^^T X^`:

- what is rounded is not W but the ridge regression of the output on X^ around W, which takes back the part of the
  activations' rounding that is linear in what they carry; its strength is chosen on rows that it has not seen;
- a column is rounded after what those before it have left undone is added to it, by the triangular factor of H
  (GPTQ's order, LDLQ's feedback), loudest column first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.quantize import largest_code, quantize

LARGEST_GROUP = 2304  # columns whose moments are kept together, 21 MB; a wider weight is rounded in several groups
_DAMPING = 0.01  # of the feedback: what is added to the moments' diagonal, as a share of its mean
_STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)  # of the ridge, as shares of the same; off where none helps
_BLOCK = 64  # columns rounded one after the other before their errors go on to all others
_ATTEMPTS = 5  # at a factor, each with ten times the damping: moments may be all but singular


@dataclass(frozen=True)
class RoundingSample:
    """Rows in the order of images, so that halves are of different images or places."""

    inputs: Tensor  # [N, K] float32, rounded and clipped; columns in the order of a weight [O, K]
    target: Tensor  # [N, O] float32, what the weight should make of them

    def to(self, device: torch.device) -> RoundingSample:
        return RoundingSample(self.inputs.to(device), self.target.to(device))

    def finite(self) -> RoundingSample:
        """Without the rows that hold NaN or infinity."""
        if torch.isfinite(self.inputs).all() and torch.isfinite(self.target).all():
            return self
        keep = torch.isfinite(self.inputs).all(1) & torch.isfinite(self.target).all(1)
        return RoundingSample(self.inputs[keep], self.target[keep])


def compensated_codes(weight: Tensor, scale: Tensor, bits: int, sample: RoundingSample) -> Tensor:
    """Codes [O, K] int8 of a weight [O, K] at scales [O, 1], for the least output error over the sample.

    No output's error over the sample is above that of rounding to nearest, which stands where this does not help: an
    empty or all-zero sample, moments that have no factor.
    """
    nearest, sample = quantize(weight, scale, bits), sample.finite()
    if not len(sample.inputs):
        return nearest
    codes, error = torch.empty_like(nearest), sample.target - sample.inputs @ weight.t()
    for columns in column_groups(weight.shape[1]):
        # What the groups before have left undone is in `error`, so that this one makes up for it too.
        x, part = sample.inputs[:, columns], weight[:, columns]
        moments = x.t() @ x
        codes[:, columns] = feedback_codes((part + ridge(x, error, moments)) / scale, bits, moments)
        error -= x @ (codes[:, columns] * scale - part).t()
    plain = sample.target - sample.inputs @ (nearest * scale).t()
    better = error.square().sum(0) < plain.square().sum(0)
    return torch.where(better[:, None], codes, nearest)


def feedback_codes(steps: Tensor, bits: int, moments: Tensor) -> Tensor:
    """Codes [O, K] int8 of weights in steps of their scale, each column rounded with the errors of louder ones.

    moments: [K, K]. With the identity's it is rounding to nearest.
    """
    limit = largest_code(bits)
    order = moments.diagonal().argsort(descending=True, stable=True)
    # An upper triangular R with R R^T = H is the mirror image of the lower one of H's mirror image.
    factor = damped_factor(moments[order][:, order].flip(0, 1), _DAMPING * float(moments.diagonal().mean()))
    if factor is None:
        return steps.round().clamp(-limit, limit).to(torch.int8)
    carry = factor.flip(0, 1)
    carry = carry / carry.diagonal()
    # A row a column of the weight, so that what one step reads and writes lies together.
    wanted, errors = steps.t()[order].contiguous(), torch.zeros_like(steps.t(), memory_format=torch.contiguous_format)
    codes = torch.empty_like(wanted)
    for start in range(0, len(wanted), _BLOCK):
        stop = min(start + _BLOCK, len(wanted))
        block = wanted[start:stop] + carry[:start, start:stop].t() @ errors[:start]
        for j in range(start, stop):
            column = torch.addmv(block[j - start], errors[start:j].t(), carry[start:j, j])
            torch.round(column, out=codes[j]).clamp_(-limit, limit)
            torch.sub(wanted[j], codes[j], out=errors[j])
    return torch.empty_like(codes).index_copy_(0, order, codes).t().to(torch.int8)


def ridge(x: Tensor, error: Tensor, moments: Tensor) -> Tensor:
    """The change [O, K] of a weight that takes back what rows x [N, K] foretell of an error [N, O]; moments: x^T x.

    Its strength is the one of `_STRENGTHS` that, found on the first half of the rows, is best on the second, where it
    has to be better than no change.
    """
    first, second = x.tensor_split([len(x) // 2])
    seen, unseen = error.tensor_split([len(x) // 2])
    best, least, solve = None, float(unseen.square().sum()), _RidgeSolver(first, seen)
    for strength in _STRENGTHS:
        left = float((unseen - second @ solve(strength)).square().sum())
        if left < least:
            best, least = strength, left
    if best is None:
        return x.new_zeros(error.shape[1], x.shape[1])
    return _RidgeSolver(x, error, moments)(best).t()


class _RidgeSolver:
    """Ridge regressions [K, O] of errors [N, O] on rows [N, K] at several strengths.

    By the smaller of the two Gram matrices: at a deep layer of few pixels the rows' is a hundredth of the columns'.
    """

    def __init__(self, x: Tensor, error: Tensor, moments: Tensor | None = None) -> None:
        self.x, self.wide = x, x.shape[0] < x.shape[1]
        if self.wide:
            self.gram = x @ x.t()
        else:
            self.gram = x.t() @ x if moments is None else moments
        self.right = error if self.wide else x.t() @ error
        self.mean = float(x.square().sum()) / x.shape[1]  # of the moments' diagonal

    def __call__(self, strength: float) -> Tensor:
        factor = damped_factor(self.gram, strength * self.mean)
        if factor is None:
            return self.x.new_zeros(self.x.shape[1], self.right.shape[1])
        solved = torch.cholesky_solve(self.right, factor)
        return self.x.t() @ solved if self.wide else solved


def column_groups(columns: int) -> Iterator[slice]:
    """The columns whose moments are kept together."""
    count = -(-columns // LARGEST_GROUP)
    size = -(-columns // count)
    return (slice(start, min(start + size, columns)) for start in range(0, columns, size))


def damped_factor(gram: Tensor, damping: float) -> Tensor | None:
    """The lower triangular factor of a Gram matrix with `damping` on its diagonal; None where there is none."""
    if not damping > 0:  # all zero, or not finite
        return None
    for attempt in range(_ATTEMPTS):
        damped = gram.clone()
        damped.diagonal().add_(damping * 10**attempt)
        factor, failed = torch.linalg.cholesky_ex(damped)
        if not int(failed):
            return factor
    return None
