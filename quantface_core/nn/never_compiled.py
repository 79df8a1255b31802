"""Keep `torch.compile` and `torch.export` out of what low-bit layers do: their kernels are compiled already.

The compiler cannot trace how they are prepared, and does not know prepacked weights. It calls them by `operators`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

from ..errors import UsageError

_Function = TypeVar("_Function", bound=Callable[..., Any])
_REASON = "this runs between compiled graphs: use torch.compile without fullgraph"


def never_compiled(function: _Function) -> _Function:
    """The function, run eagerly (a graph break) wherever compiled code calls it."""
    try:
        disabled = torch.compiler.disable(function, reason=_REASON)
    except TypeError:  # before torch 2.7, which has no reason to tell
        disabled = torch.compiler.disable(function)
    return cast(_Function, disabled)


# Asked outside the trace: where torch 2.10 compiles, its `is_exporting` is always true.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _exporting() -> bool:
    return getattr(torch.compiler, "is_exporting", bool)()  # from torch 2.7 on


def refuse_export() -> None:
    """Raise UsageError where `torch.export` records what runs."""
    if _exporting():
        raise UsageError("torch.export cannot record low-bit layers: export the model in full precision")
