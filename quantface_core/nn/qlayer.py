"""What the low-bit linear and convolution share: what is stored, and the kernel that is prepared from it."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from operator import is_
from typing import Any

import torch
from torch import Tensor

from ..kernels import reference
from ..kernels.backend import Backend
from ..kernels.channel_transform import ChannelTransform
from ..kernels.dispatch import backend_name, preferred_backend
from ..kernels.fusion import FusedConv2d, FusedLinear
from ..types import LayerFormat
from . import operators
from .never_compiled import refuse_export
from .stored_layer import StoredLayer

_preparing = threading.RLock()  # shared by all layers: a kernel is prepared in several steps, by one thread at a time


@dataclass(frozen=True, eq=False)
class Prepared:
    """A layer's kernel, and what else was derived from the buffers it was prepared with.

    One value, set when it is complete: a thread that finds it needs no lock.
    """

    buffers: tuple[Tensor | None, ...]
    transform: ChannelTransform  # balances the layer's input
    kernel: Any  # of a backend, with the layer's branch where it fuses it
    fuses: bool  # whether the kernel is a FusedConv2d or FusedLinear: looked up here, as checking a protocol is slow
    branches: dict[tuple[str, torch.dtype], Any] = field(default_factory=dict)  # the branch by form and dtype

    def is_of(self, buffers: Collection[Tensor | None]) -> bool:
        """Whether a layer's buffers are still those it was prepared with: the same tensors, in the same order."""
        return len(buffers) == len(self.buffers) and all(map(is_, self.buffers, buffers))


class QuantLayer(StoredLayer):
    """A low-bit layer: prepared on first use for the backend that computes, and again when its buffers change.

    Gradients of the input pass through: see input_gradient.py.
    """

    def __init__(self, shape: tuple[int, ...], fmt: LayerFormat, bias: bool) -> None:
        super().__init__(shape, fmt, bias)
        self._preferred: str | None = None
        self._prepared: Prepared | None = None
        operators.register(self)

    def _empty(self, fmt: LayerFormat) -> QuantLayer:
        return type(self)(self.shape, fmt, self.bias is not None)

    def like(self, fmt: LayerFormat) -> QuantLayer:
        """A layer that shares these integers, scales and bias, in another format; its branch is not set yet."""
        built = self._empty(fmt)
        for name in ("packed", "channel_scale", "bias", "placeholder"):
            setattr(built, name, getattr(self, name))
        built.weight_scale = self.weight_scale.clone()  # by which operators tell layers apart
        return built

    def prefer(self, backend: Backend) -> None:
        """Use a registered backend on every device that it can run on, and the fastest one elsewhere.

        Raises UsageError for a backend that is not registered.
        """
        self._preferred = backend_name(backend)
        self.release()

    def prepare(self, backend: Backend) -> None:
        """Prepare to run on a backend, prepacking what it needs.

        `reference` stands in where the backend does not support the layer's widths.
        """
        with _preparing:
            self._prepare(backend)

    def _prepare(self, backend: Backend) -> Prepared:
        refuse_export()
        self.release()
        buffers, transform = tuple(self._buffers.values()), ChannelTransform(self.channel_scale, self.rotation)
        exact = backend.supports(self.format.weight_bits, self.format.activation_bits)
        kernel = self._make_kernel(backend if exact else reference, transform)
        fuses = isinstance(kernel, FusedConv2d | FusedLinear)
        if self.format.rank and fuses:
            kernel.take_branch(self._branch_reader())
        # Last: from then on, other threads compute with it.
        self._prepared = prepared = Prepared(buffers, transform, kernel, fuses)
        return prepared

    def _make_kernel(self, backend: Backend, transform: ChannelTransform) -> Any:
        raise NotImplementedError

    def compute(self, x: Tensor) -> Tensor:
        """The output for x, not recorded by autograd."""
        raise NotImplementedError

    def input_gradient(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """The gradient of an input of this shape, from the output's."""
        raise NotImplementedError

    def branch(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The low-rank pair in a dtype: down [rank, C, *kernel], folded to take x instead of x^; up^T [rank, O].

        Only for a format with a rank.
        """
        prepared = self.prepared()
        if ("pair", dtype) not in prepared.branches:
            down, up = self.stored_branch()
            down = prepared.transform.fold(down).to(dtype)
            if down.ndim == 4:
                down = down.contiguous(memory_format=torch.channels_last)
            prepared.branches["pair", dtype] = down, up.to(dtype).t().contiguous()
        pair: tuple[Tensor, Tensor] = prepared.branches["pair", dtype]
        return pair

    def kernel(self) -> Any:
        """The prepared kernel: see `prepared`."""
        return self.prepared().kernel

    def prepared(self) -> Prepared:
        """What the layer computes with, on the preferred backend or else the fastest.

        Prepared on first use, and again once buffers are replaced: a host's memory manager may swap in its own,
        bypassing `_apply`.
        """
        if (prepared := self._current()) is not None:
            return prepared
        with _preparing:
            return self._current() or self._prepare(preferred_backend(self.packed.device, self._preferred))

    def _current(self) -> Prepared | None:
        prepared = self._prepared  # another thread may replace it meanwhile
        return prepared if prepared is not None and prepared.is_of(self._buffers.values()) else None

    def release(self) -> None:
        """Drop the prepared kernel and all that was derived from the buffers; rebuilt on the next use."""
        self._prepared = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        operators.register(self)

    def __getstate__(self) -> dict[str, Any]:
        """The state to copy or pickle, without the kernel: prepacked weights cannot be copied; rebuilt on use."""
        return {**self.__dict__, "_prepared": None}
