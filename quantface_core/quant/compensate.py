"""Round a weight so that its errors cancel in the output, instead of each to nearest (docs/method.md, section 3).

A layer multiplies its input X in rounded form, X^. Over rows of both, the output error with the weight W rounded to Q
is `X W^T - X^ Q^T`. Two steps make it smaller than rounding to nearest does, both using the columns' second
moments `H = X^^T X^`:

- what is rounded is not W but the ridge regression of the output on X^ around W, which cancels the part of the
  activations' rounding error that is linear in X^; its strength is chosen on held-out rows;
- a column is rounded after the errors left by earlier columns are added to it, through the triangular factor of H
  (GPTQ's order, LDLQ's feedback), in order of falling second moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.quantize import largest_code, quantize

LARGEST_GROUP = 2304  # columns whose moments are held at once, 21 MB; a wider weight is rounded in several groups
_DAMPING = 0.01  # of the feedback: added to the moments' diagonal, as a share of its mean
_STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)  # of the ridge, as shares of that mean; off where none helps
_BLOCK = 64  # columns rounded one by one before their errors propagate to all others
_ATTEMPTS = 5  # at factorizing, each with ten times the damping: moments may be nearly singular


@dataclass(frozen=True)
class RoundingSample:
    """Rows in the order of images, so that the two halves come from different images or positions."""

    inputs: Tensor  # [N, K] float32, dequantized codes; columns in the order of a weight [O, K]
    target: Tensor  # [N, O] float32, the output that the weight should produce from them

    def to(self, device: torch.device) -> RoundingSample:
        return RoundingSample(self.inputs.to(device), self.target.to(device))

    def finite(self) -> RoundingSample:
        """The sample without rows that hold NaN or infinity."""
        if torch.isfinite(self.inputs).all() and torch.isfinite(self.target).all():
            return self
        keep = torch.isfinite(self.inputs).all(1) & torch.isfinite(self.target).all(1)
        return RoundingSample(self.inputs[keep], self.target[keep])


def compensated_codes(weight: Tensor, scale: Tensor, bits: int, sample: RoundingSample) -> Tensor:
    """Codes [O, K] int8 of a weight [O, K] at scales [O, 1], chosen for a small output error over the sample.

    No output's error over the sample exceeds that of rounding to nearest, which is kept where compensation does not
    help: for an empty or all-zero sample, or moments that cannot be factorized.
    """
    nearest, sample = quantize(weight, scale, bits), sample.finite()
    if not len(sample.inputs):
        return nearest
    codes, error = torch.empty_like(nearest), sample.target - sample.inputs @ weight.t()
    for columns in column_groups(weight.shape[1]):
        # `error` holds what earlier groups have left, so that this one compensates for it too.
        x, part = sample.inputs[:, columns], weight[:, columns]
        moments = x.t() @ x
        codes[:, columns] = feedback_codes((part + ridge(x, error, moments)) / scale, bits, moments)
        error -= x @ (codes[:, columns] * scale - part).t()
    plain = sample.target - sample.inputs @ (nearest * scale).t()
    better = error.square().sum(0) < plain.square().sum(0)
    return torch.where(better[:, None], codes, nearest)


def feedback_codes(steps: Tensor, bits: int, moments: Tensor) -> Tensor:
    """Codes [O, K] int8 of weights in units of their scale, the errors of earlier columns fed into later ones.

    moments: [K, K]; columns are taken in order of falling diagonal. With the identity it is rounding to nearest.
    """
    limit = largest_code(bits)
    order = moments.diagonal().argsort(descending=True, stable=True)
    # An upper triangular R with R R^T = H is the mirror image of the lower one of H's mirror image.
    factor = damped_factor(moments[order][:, order].flip(0, 1), _DAMPING * float(moments.diagonal().mean()))
    if factor is None:
        return steps.round().clamp(-limit, limit).to(torch.int8)
    carry = factor.flip(0, 1)
    carry = carry / carry.diagonal()
    # One row per column of the weight, so that each step's reads and writes are contiguous.
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
    """The change [O, K] to a weight that cancels what rows x [N, K] predict of an error [N, O]; moments: x^T x.

    Its strength is the one of `_STRENGTHS` that, fitted on the first half of the rows, does best on the second; where
    none beats no change, the change is zero.
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

    Uses the smaller of the two Gram matrices: at a deep layer with few pixels the rows' is a hundredth of the columns'.
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
    """Slices of the columns whose moments are held at once."""
    count = -(-columns // LARGEST_GROUP)
    size = -(-columns // count)
    return (slice(start, min(start + size, columns)) for start in range(0, columns, size))


def damped_factor(gram: Tensor, damping: float) -> Tensor | None:
    """The lower Cholesky factor of a Gram matrix with `damping` added to its diagonal; None where it has none."""
    if not damping > 0:  # all zero, or not finite
        return None
    for attempt in range(_ATTEMPTS):
        damped = gram.clone()
        damped.diagonal().add_(damping * 10**attempt)
        factor, failed = torch.linalg.cholesky_ex(damped)
        if not int(failed):
            return factor
    return None
