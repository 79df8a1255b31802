"""Low-bit layers inside a model that `torch.compile` is given: their kernels are compiled already.

A compiler cannot follow how they are prepared, and knows no prepacked weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

_Function = TypeVar("_Function", bound=Callable[..., Any])


def never_compiled(function: _Function) -> _Function:
    """The function, run as it is written wherever compiled code calls it."""
    return cast(_Function, torch.compiler.disable(function))
