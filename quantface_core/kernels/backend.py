"""What a backend is: the contract that `reference`, `onednn`, `triton` and `half` keep, and their names.

To add one: a folder beside those that keeps `Backend`, and its name in `NAMES`; from outside, `register_backend`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NAMES = ("onednn", "triton", "half", "reference")
"""The fastest first."""
CHOICES = ("auto", *NAMES)
"""What users choose from; auto is the fastest that the device can run."""


class LinearKernel(Protocol):
    """A prepared linear: x [N, C] -> [N, O] in the dtype of x, in two halves that layers may share the first of."""

    def codes(self, x: Tensor) -> tuple[Any, ...]:
        """x balanced and rounded, as `product` wants it."""

    def product(self, *codes: Any) -> Tensor:
        """The result from codes."""


class Conv2dKernel(Protocol):
    """A prepared convolution: x [B, C, H, W] -> [B, O, H', W'] in the dtype of x."""

    def __call__(self, x: Tensor) -> Tensor: ...

    def forward_upsampled(self, x: Tensor) -> Tensor:
        """The same of x with every pixel doubled (nearest neighbour): [B, O, 2 H', 2 W']."""


class Backend(Protocol):
    """A module, or anything else with these names. Codes are those of `reference` to the bit."""

    __name__: str

    @property
    def Linear(self) -> Callable[..., LinearKernel]:  # noqa: N802 a class
        """Made of what `reference.Linear` is."""

    @property
    def Conv2d(self) -> Callable[..., Conv2dKernel]:  # noqa: N802 a class
        """Made of what `reference.Conv2d` is."""

    @property
    def unavailable(self) -> Callable[[torch.device], str | None]:
        """Why the backend cannot run on a device; None = it can."""

    @property
    def supports(self) -> Callable[[int, int], bool]:
        """Whether it is exact for (weight bits, activation bits); `reference` stands in where it is not."""
