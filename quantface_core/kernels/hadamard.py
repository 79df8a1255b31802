"""Randomized block-Hadamard rotations of a channel axis (docs/method.md, section 2).

`H = D h`: D flips channels by random signs, h mixes blocks of them by an orthogonal Hadamard matrix. A
rotation spreads one large channel over its block; because it is orthogonal, rotating activations and
weights alike leaves their product unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError

_PALEY_PRIMES = {12: 11, 20: 19}  # order: the prime q = order - 1, congruent to 3 modulo 4


@dataclass(frozen=True)
class Rotation:
    """All that is needed to rebuild a rotation: what a checkpoint stores."""

    channels: int
    block: int  # channels mixed together, a divisor of `channels` with a Hadamard matrix; 1 = no rotation
    seed: int  # of the signs


def has_hadamard(order: int) -> bool:
    """Whether `hadamard` knows this order: products of 2, 12 and 20."""
    return _factors(order) is not None


def largest_block(channels: int, wanted: int = 64) -> int:
    """The largest known order up to `wanted` that divides `channels`; 1 where no other does (odd counts)."""
    return next(b for b in range(min(channels, wanted), 0, -1) if channels % b == 0 and has_hadamard(b))


@cache
def hadamard(order: int) -> Tensor:
    """The orthogonal Hadamard matrix of an order, [order, order] float64, entries +-1/sqrt(order).

    Raises ConfigError for an order that has no construction here.
    """
    factors = _factors(order)
    if factors is None:
        raise ConfigError(f"no Hadamard matrix of order {order}: use a product of 2, 12 and 20")
    matrix = torch.ones(1, 1, dtype=torch.float64, device="cpu")
    for factor in factors:
        matrix = torch.kron(matrix, _sylvester() if factor == 2 else _paley(factor))
    return matrix / order**0.5


def _factors(order: int) -> tuple[int, ...] | None:
    """The order as a product of 20s, 12s and 2s, large factors first; None if it is no such product."""
    if order <= 1:
        return () if order == 1 else None
    for factor in (20, 12, 2):
        if order % factor == 0 and (rest := _factors(order // factor)) is not None:
            return (factor, *rest)
    return None


def _sylvester() -> Tensor:
    return torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64, device="cpu")


def _paley(order: int) -> Tensor:
    """Paley's first construction: quadratic residues modulo a prime q = 3 (mod 4), bordered by ones."""
    q = _PALEY_PRIMES[order]
    residues = {i * i % q for i in range(1, q)}
    jacobsthal = torch.tensor(
        [[0 if i == j else 1 if (i - j) % q in residues else -1 for j in range(q)] for i in range(q)],
        dtype=torch.float64,
        device="cpu",
    )
    skew = torch.zeros(order, order, dtype=torch.float64, device="cpu")
    skew[0, 1:], skew[1:, 0], skew[1:, 1:] = 1, -1, jacobsthal
    return skew + torch.eye(order, dtype=torch.float64, device="cpu")


def random_signs(channels: int, seed: int) -> Tensor:
    """The rotation's signs, [channels] float64 of +-1; the same on every device and in every release."""
    # NumPy keeps the raw stream of a bit generator unchanged across releases; torch promises no such thing.
    bits = np.random.PCG64(seed).random_raw(channels) >> np.uint64(63)
    return torch.from_numpy(bits.astype(np.float64)) * 2 - 1


def rotation_signs(rotation: Rotation) -> Tensor:
    """D: the signs that a rotation flips channels by before it mixes them, [channels] float32; ones at block 1."""
    if rotation.block == 1:
        return torch.ones(rotation.channels, dtype=torch.float32, device="cpu")
    return random_signs(rotation.channels, rotation.seed).float()


def rotate(x: Tensor, rotation: Rotation, dim: int = -1) -> Tensor:
    """`x H` along a channel axis; shape, dtype and device stay. Raises ConfigError for other channel counts."""
    x = _checked(x, rotation, dim)
    if rotation.block == 1:
        return x
    dim, signs = dim % x.ndim, rotation_signs(rotation).to(x)
    if dim == x.ndim - 1 or x.movedim(dim, -1).is_contiguous():
        return _mix(x.movedim(dim, -1) * signs, rotation).movedim(-1, dim)
    return _mix_ahead(x * signs.view(-1, *[1] * (x.ndim - 1 - dim)), rotation, dim)


def unrotate(x: Tensor, rotation: Rotation, dim: int = -1) -> Tensor:
    """`x H^T`, the inverse of `rotate`. Raises ConfigError for other channel counts."""
    x = _checked(x, rotation, dim)
    if rotation.block == 1:
        return x
    return (_mix(x.movedim(dim, -1), rotation, transpose=True) * rotation_signs(rotation).to(x)).movedim(-1, dim)


def _checked(x: Tensor, rotation: Rotation, dim: int) -> Tensor:
    if x.shape[dim] != rotation.channels:
        raise ConfigError(f"a rotation of {rotation.channels} channels cannot be applied to {x.shape[dim]}")
    return x


def _mix(x: Tensor, rotation: Rotation, transpose: bool = False) -> Tensor:
    matrix = hadamard(rotation.block).to(x)
    return (x.unflatten(-1, (-1, rotation.block)) @ (matrix.t() if transpose else matrix)).flatten(-2)


def _mix_ahead(x: Tensor, rotation: Rotation, dim: int) -> Tensor:
    """`_mix` from the left, along a dimension that is not the last in memory: spares a map the transposition."""
    blocks = x.unflatten(dim, (-1, rotation.block)).flatten(dim + 2)
    return (hadamard(rotation.block).to(x).t() @ blocks).view_as(x)
