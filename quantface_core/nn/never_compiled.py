"""Keep `torch.compile` out of a model's low-bit layers: their kernels are compiled already.

The compiler cannot trace how they are prepared, and does not know prepacked weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

_Function = TypeVar("_Function", bound=Callable[..., Any])


def never_compiled(function: _Function) -> _Function:
    """The function, run eagerly (a graph break) wherever compiled code calls it."""
    return cast(_Function, torch.compiler.disable(function))
