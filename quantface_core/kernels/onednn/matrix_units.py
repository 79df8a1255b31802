"""CPUs with matrix units (AMX) multiply so fast that passes over memory cost more than products."""

from __future__ import annotations

from functools import cache

import torch


@cache
def has_matrix_units() -> bool:
    """Whether the CPU multiplies in tiles (AMX)."""
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())
