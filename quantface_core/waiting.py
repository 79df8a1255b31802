"""How threads wait for each other: asleep, so that a machine with other work does not spin its time away."""

from __future__ import annotations

import os

# GNU's OpenMP (torch's on Linux) would spin for some milliseconds, Intel's and LLVM's (Windows, macOS) for 200 of them.
_SETTINGS = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
_ALL = (*_SETTINGS, "GOMP_SPINCOUNT")


def wait_passively() -> None:
    """Choose passive waiting for this process and those it starts, unless somebody chose.

    The libraries read it when torch loads; where it is loaded already, only processes started later have it.
    """
    if not any(name in os.environ for name in _ALL):
        os.environ.update(_SETTINGS)
