"""Dense packing of small integers: n codes of b bits take ceil(n * b / 8) bytes.

Codes are stored offset by 2^(b-1) as one little-endian stream of bits, so at 4 bits the low nibble of a
byte is the even column, and at 6 bits four codes fill three bytes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import ConfigError
from ..types import check_bits

_GROUP = 8  # codes that fill a whole number of bytes at every width
_PIECE = 1 << 15  # groups unpacked at once: their words stay in the cache


def packed_size(count: int, bits: int) -> int:
    """Bytes that `count` codes of `bits` bits take."""
    return -(-count * bits // 8)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes of any shape, int8 in [-2^(b-1), 2^(b-1) - 1] -> [packed_size] uint8, in row-major order.

    Raises ConfigError for a width outside `BITS` or a code that does not fit it.
    """
    check_bits(bits)
    flat = codes.flatten().to(torch.int64) + (1 << (bits - 1))
    if flat.numel() and (int(flat.min()) < 0 or int(flat.max()) >= 1 << bits):
        raise ConfigError(f"codes do not fit {bits} bits")
    if bits == 8:
        return flat.to(torch.uint8)
    groups = torch.nn.functional.pad(flat, (0, -len(flat) % _GROUP)).unflatten(0, (-1, _GROUP))
    words = (groups << (torch.arange(_GROUP, device=flat.device) * bits)).sum(1)
    stream = (words[:, None] >> (torch.arange(bits, device=flat.device) * 8)) & 0xFF
    return stream.flatten()[: packed_size(len(flat), bits)].to(torch.uint8)


def unpack(packed: Tensor, bits: int, shape: tuple[int, ...]) -> Tensor:
    """The inverse of `pack`: [packed_size] uint8 -> int8 codes of `shape`.

    Raises ConfigError for a width outside `BITS`, or another size or dtype of `packed`.
    """
    check_bits(bits)
    count = math.prod(shape)
    if packed.dtype != torch.uint8 or packed.shape != (packed_size(count, bits),):
        expected = packed_size(count, bits)
        raise ConfigError(f"{count} codes of {bits} bits are {expected} bytes, got {list(packed.shape)} {packed.dtype}")
    if bits == 8:
        return (packed.to(torch.int16) - 128).to(torch.int8).reshape(shape)
    groups = -(-count // _GROUP)
    codes = torch.empty(groups * _GROUP, dtype=torch.int8, device=packed.device)
    stream = torch.nn.functional.pad(packed, (0, -len(packed) % bits))
    # On a GPU, pieces would only mean more kernel launches.
    step = _PIECE if packed.device.type == "cpu" else max(1, groups)
    for piece, out in zip(stream.split(step * bits), codes.split(step * _GROUP), strict=True):
        _unpack_piece(piece, bits, out)
    return codes[:count].reshape(shape)


def _unpack_piece(stream: Tensor, bits: int, out: Tensor) -> None:
    """Unpack whole groups of bytes into `out`, in the shortest words that hold a group."""
    group, word = (2, torch.int16) if bits == 4 else (4, torch.int32) if bits == 6 else (_GROUP, torch.int64)
    size = group * bits // 8
    shifts = torch.arange(max(group, size), device=stream.device, dtype=word)
    words = (stream.view(-1, size).to(word) << (shifts[:size] * 8)).sum(1, keepdim=True, dtype=word)
    out.copy_((((words >> (shifts[:group] * bits)) & ((1 << bits) - 1)) - (1 << (bits - 1))).flatten())
