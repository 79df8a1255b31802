"""What computes, in which precision, and the model that is used when none is named."""

from __future__ import annotations

PRECISIONS = ("auto", "float32", "bfloat16")
"""Compute dtype of everything that is not integer; auto = bfloat16 where the device has it, else float32."""

DEVICES = ("auto", "cpu", "cuda", "xpu", "mps")
"""What computes; auto = the first that the machine has of CUDA (or ROCm), Intel's XPU, Apple's MPS and the CPU."""

DEFAULT_RESTORER = "quantface-mini-w4a4"
"""The bundled model, used when none is named."""
