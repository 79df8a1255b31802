"""Import diffusers without the packages that it loads at once, if they are installed, but restoring never uses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

_UNUSED = (
    *("accelerate", "peft", "transformers"),  # slow to import
    # Often built for another torch or NumPy than the installed one, which stops whatever imports them.
    *("bitsandbytes", "flash_attn", "gguf", "kernels", "optimum", "sageattention", "scipy", "torchao", "torchvision"),
    "xformers",
)
_COMPILER = "torch._dynamo"


class _Undecorated(ModuleType):
    """Stands in for the compiler while diffusers is imported, which only decorates functions by it."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        return _as_it_is


def _as_it_is(function: Any = None, *_: Any, **__: Any) -> Any:
    """A decorator that leaves a function as it is, with and without arguments."""
    return function or _as_it_is


def import_lean_diffusers() -> None:
    """Import diffusers' models as if packages of adapters, text encoders, training and acceleration were not installed.

    Importing those, and torch's compiler, takes longer than diffusers itself, and fails where one of them is broken.
    Diffusers goes on believing them absent for as long as the process lives, so this is for a process of one's own,
    which only restores; everything else imports them as usual.
    """
    if "diffusers" in sys.modules:
        return
    instead: dict[str, Any] = dict.fromkeys(_UNUSED)  # None is for what cannot be imported
    instead |= {_COMPILER: _Undecorated(_COMPILER)}
    hidden = {name: module for name, module in instead.items() if name not in sys.modules}
    sys.modules.update(hidden)
    try:
        from ..restorer import one_step  # noqa: F401
    finally:
        for name in hidden:
            del sys.modules[name]
