"""Poll for cancellation before each layer's forward and backward: one face or training step may take a minute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def cancel_hooks(check: Callable[[], None], *models: nn.Module) -> Iterator[None]:
    """Within this context, every leaf layer of the models calls `check` before its forward and its backward pass.

    An exception that `check` raises propagates and ends the work.
    """

    def before_forward(_: nn.Module, __: Any) -> None:
        check()

    def before_backward(_: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(lambda _: check())

    leaves = [module for model in models for module in model.modules() if not any(module.children())]
    with ExitStack() as hooks:
        for leaf in leaves:
            hooks.enter_context(leaf.register_forward_pre_hook(before_forward))
            hooks.enter_context(leaf.register_forward_hook(before_backward))
        yield
