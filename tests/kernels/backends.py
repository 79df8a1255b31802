"""Backends that can be tried here, and layers for them to compute."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import torch
from hypothesis import strategies as st

from quantface_core.kernels.backend import ActivationFormat, Backend, Conv2dSpec, LinearSpec
from quantface_core.kernels.bitpack import pack
from quantface_core.kernels.dispatch import BACKENDS
from quantface_core.kernels.quantize import ASYMMETRIC_BITS, largest_code
from quantface_core.kernels.weight import LowBitWeight

CPU, GPU = torch.device("cpu"), torch.device("cuda")
needs_onednn = pytest.mark.skipif(bool(BACKENDS["onednn"].unavailable(CPU)), reason="needs oneDNN's products")

WIDTHS = st.tuples(st.sampled_from([3, 4, 6, 8]), st.sampled_from([3, 4, 6, 8]))
SHARES = st.sampled_from([None, 0, 1 / 16, 1 / 4, 1 / 2])  # of activation codes, below zero; None = symmetric
_Spec = TypeVar("_Spec", bound=LinearSpec)


def interpreter() -> bool:
    """Whether there is a Triton whose interpreter needs no GPU."""
    return importlib.util.find_spec("triton") is not None and int(importlib.metadata.version("triton")[0]) >= 3


INTERPRETED = not torch.cuda.is_available() and interpreter()
"""Whether Triton's kernels run on the CPU, in its interpreter: see conftest.py."""


def places(dtype: torch.dtype = torch.float32) -> list[tuple[Backend, torch.device]]:
    """Every backend with exact results that can be tried here, with the device to try it on."""
    devices = [CPU, GPU] if torch.cuda.is_available() else [CPU]
    exact = [backend for name, backend in BACKENDS.items() if name != "half"]
    known = [(b, device) for b in exact for device in devices if b.unavailable(device) is None]
    # The interpreter cuts numbers off to bfloat16, a GPU rounds them: see triton/test_bfloat16.py.
    return [*known, (BACKENDS["triton"], CPU)] if INTERPRETED and dtype != torch.bfloat16 else known


def on(device: torch.device, spec: _Spec) -> _Spec:
    """A layer's description with its tensors on a device; without a channel transform."""
    weight = replace(spec.weight, packed=spec.weight.packed.to(device), scale=spec.weight.scale.to(device))
    return replace(spec, weight=weight, bias=None if spec.bias is None else spec.bias.to(device))


def linear_spec(
    weight: LowBitWeight, bits: int, clip: float = 1.0, zero_point: int | None = None, **more: Any
) -> LinearSpec:
    return LinearSpec(weight, ActivationFormat(bits, clip, zero_point), **more)


def conv2d_spec(
    weight: LowBitWeight, bits: int, clip: float = 1.0, zero_point: int | None = None, **more: Any
) -> Conv2dSpec:
    return Conv2dSpec(weight, ActivationFormat(bits, clip, zero_point), **more)


def zero_point_of(share: float | None, bits: int) -> int | None:
    return None if share is None or bits > ASYMMETRIC_BITS else round(share * 2**bits)


def low_bit_weight(shape: tuple[int, ...], bits: int, seed: int) -> LowBitWeight:
    generator = torch.Generator().manual_seed(seed)
    limit = largest_code(bits)
    codes = torch.randint(-limit, limit + 1, shape, generator=generator).to(torch.int8)
    return LowBitWeight(pack(codes, bits), torch.rand(shape[0], generator=generator) + 0.1, bits, shape)
