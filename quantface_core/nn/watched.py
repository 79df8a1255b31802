"""Look for a host's cancel button from within a model: one face or step of a large one may take a minute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def watched(check: Callable[[], None], *models: nn.Module) -> Iterator[None]:
    """While it lasts every layer of the models calls `check` before it computes; what that raises ends the work."""

    def look(_: nn.Module, __: Any) -> None:
        check()

    leaves = [module for model in models for module in model.modules() if not any(module.children())]
    hooks = [leaf.register_forward_pre_hook(look) for leaf in leaves]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
