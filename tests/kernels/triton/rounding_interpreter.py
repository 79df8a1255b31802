"""Triton's interpreter with bfloat16 as GPUs have it, the dtype that low-bit layers compute in there.

Its own cuts numbers off to bfloat16, and multiplies matrices of their bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


def round_to_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Correct the interpreter within a test."""
    import triton.language as tl
    from triton.runtime import interpreter

    builder = interpreter.InterpreterBuilder
    convert, dot = interpreter._convert_float, builder.create_dot

    def converted(x: Any, source: Any, target: Any, mode: Any) -> Any:
        if (source, target) == (tl.float32, tl.bfloat16):
            return _rounded(np.ascontiguousarray(x)).reshape(x.shape)
        if (source, target) == (tl.bfloat16, tl.float32):
            return (x.view(np.uint16).astype(np.uint32) << np.uint32(16)).reshape(x.shape)
        return convert(x, source, target, mode)

    def widened(x: Any) -> Any:
        if x.dtype.scalar != tl.bfloat16:
            return x
        return interpreter.TensorHandle(converted(x.data, tl.bfloat16, tl.float32, None).view(np.float32), tl.float32)

    monkeypatch.setattr(interpreter, "_convert_float", converted)
    monkeypatch.setattr(builder, "create_dot", lambda self, a, b, *more: dot(self, widened(a), widened(b), *more))


def _rounded(x: Any) -> Any:
    """Bits of float32 numbers in bfloat16, rounded half to even: uint16."""
    bits = x.view(np.uint32)
    nearest = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(x.view(np.float32)), np.uint32(0x7FC0), nearest).astype(np.uint16)
