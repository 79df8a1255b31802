"""What the low-bit linear and convolution share: stored tensors, balancing, the low-rank branch.

    y = Q(x^) Q(W^)^T + (x^ down^T) up^T + bias        x^ = (x * channel_scale) H

`channel_scale` is 1/s of DESIGN.md section 3.1; H is the rotation the format names.
"""

from __future__ import annotations

import threading
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..kernels import reference
from ..kernels.backend import Backend
from ..kernels.balance import branch_codes, branch_values
from ..kernels.bitpack import pack, packed_size
from ..kernels.channel_transform import ChannelTransform
from ..kernels.dispatch import backend_name, preferred_backend
from ..kernels.fusion import FusedConv2d, FusedLinear, StoredBranch
from ..kernels.hadamard import Rotation
from ..kernels.quantize import dequantize
from ..kernels.weight import LowBitWeight
from ..types import FLOAT_BRANCH, LayerFormat

_preparing = threading.RLock()  # of all layers: a kernel is made of several parts, and two threads may ask for one


def _branch_values(
    down: Tensor, down_scale: Tensor | None, up: Tensor, up_scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    if down_scale is None or up_scale is None:
        return down, up
    return branch_values(down, down_scale), branch_values(up, up_scale)


class QuantLayer(nn.Module):
    """Buffers of a low-bit layer, in the dtypes a checkpoint stores, which take no gradients: see trainable.py.

    Those of the input pass through: see input_gradient.py.

    packed [bytes] uint8, weight_scale [O] float32, channel_scale [C] float32, bias [O] float32 or None,
    down [rank, C, *kernel] and up [O, rank] where the format has a rank: float16, or int8 with down_scale [rank] and
    up_scale [O] float32. `channel_scale` of a layer whose
    balance what makes x has taken over (`nn/fold.py`) is the rotation's signs, which it undoes.
    """

    packed: Tensor
    weight_scale: Tensor
    channel_scale: Tensor
    bias: Tensor | None
    down: Tensor
    up: Tensor
    down_scale: Tensor
    up_scale: Tensor

    def __init__(self, shape: tuple[int, ...], fmt: LayerFormat, bias: bool) -> None:
        super().__init__()
        self.shape, self.format = tuple(shape), fmt
        outputs, channels = shape[:2]
        count = torch.Size(shape).numel()
        self.register_buffer("packed", torch.zeros(packed_size(count, fmt.weight_bits), dtype=torch.uint8))
        self.register_buffer("weight_scale", torch.ones(outputs, dtype=torch.float32))
        self.register_buffer("channel_scale", torch.ones(channels, dtype=torch.float32))
        self.register_buffer("bias", torch.zeros(outputs, dtype=torch.float32) if bias else None)
        if fmt.rank:
            dtype = torch.float16 if fmt.branch_bits == FLOAT_BRANCH else torch.int8
            self.register_buffer("down", torch.zeros(fmt.rank, *shape[1:], dtype=dtype))
            self.register_buffer("up", torch.zeros(outputs, fmt.rank, dtype=dtype))
            if fmt.branch_bits != FLOAT_BRANCH:
                self.register_buffer("down_scale", torch.ones(fmt.rank, dtype=torch.float32))
                self.register_buffer("up_scale", torch.ones(outputs, dtype=torch.float32))
        self._preferred: str | None = None
        # Made when it is prepared.
        self._kernel: Any = None
        self._made_of: tuple[Tensor | None, ...] = ()  # the buffers that it was prepared with
        self._transform: Any = None
        self._branch: dict[torch.dtype, tuple[Tensor, Tensor]] = {}

    @property
    def rotation(self) -> Rotation:
        return Rotation(self.shape[1], self.format.block, self.format.seed)

    def _empty(self, fmt: LayerFormat) -> QuantLayer:
        return type(self)(self.shape, fmt, self.bias is not None)

    def like(self, fmt: LayerFormat) -> QuantLayer:
        """A layer with these integers, scales and bias, and another format; its branch is not set yet."""
        built = self._empty(fmt)
        for name in ("packed", "weight_scale", "channel_scale", "bias"):
            setattr(built, name, getattr(self, name))
        return built

    @property
    def weight(self) -> Tensor:
        """What the layer multiplies x by, [O, C, *kernel] float32, branch included: for who looks at a layer's weight.

        Computed at every look.
        """
        balanced = dequantize(self.stored_weight().codes(), self.weight_scale.view(-1, *[1] * (len(self.shape) - 1)))
        if self.format.rank:
            down, up = self.stored_branch()
            balanced = balanced + (up.float() @ down.flatten(1).float()).view_as(balanced)
        return ChannelTransform(self.channel_scale, self.rotation).fold(balanced)

    def stored_weight(self) -> LowBitWeight:
        """The balanced weight as it is stored, for a backend."""
        return LowBitWeight(self.packed, self.weight_scale, self.format.weight_bits, self.shape)

    def stored_branch(self) -> tuple[Tensor, Tensor]:
        """(down [rank, C, *kernel], up [O, rank]) float16, over balanced inputs; of a format with a rank."""
        return self._branch_reader()()

    def _branch_reader(self) -> StoredBranch:
        """Reads these buffers' branch; holds them, and not the layer: a kernel that it holds would hold it in turn."""
        if self.format.branch_bits != FLOAT_BRANCH:
            return partial(_branch_values, self.down, self.down_scale, self.up, self.up_scale)
        return partial(_branch_values, self.down, None, self.up, None)

    def set_branch(self, down: Tensor, up: Tensor) -> None:
        """Store a branch of the format's rank, rounded to what the format stores."""
        # Contiguous, as a file will hold them: strides choose the order in which a product adds.
        down, up = down.contiguous(), up.contiguous()
        if self.format.branch_bits != FLOAT_BRANCH:
            self.down, self.down_scale = branch_codes(down)
            self.up, self.up_scale = branch_codes(up)
        else:
            self.down, self.up = down.half(), up.half()
        self.release()

    def multiply_outputs(self, rows: slice, factors: Tensor) -> None:
        """Multiply some outputs by factors, none of them zero; scales stay above zero, and a sign is the integers'."""
        weight, scale = self.stored_weight().codes(), self.weight_scale.clone()
        weight[rows] *= factors.sign().to(weight.dtype).view(-1, *[1] * (weight.ndim - 1))
        scale[rows] *= factors.abs()
        self.packed, self.weight_scale = pack(weight, self.format.weight_bits), scale
        if self.bias is not None:
            self.bias = self.bias.clone()
            self.bias[rows] *= factors
        if self.format.rank:
            down, up = (half.clone() for half in self.stored_branch())
            up[rows] = (up[rows] * factors[:, None]).to(up.dtype)
            self.set_branch(down, up)
        self.release()

    def balance_by(self, channel_scale: Tensor) -> None:
        """Multiply channels by other scales [C] before they are mixed."""
        self.channel_scale = channel_scale
        self.release()

    def prefer(self, backend: Backend) -> None:
        """Run on a backend on every device that it can run on."""
        self._preferred = backend_name(backend)
        self.release()

    def prepare(self, backend: Backend, preferred: bool = False) -> None:
        """Make ready to run on a backend: prepack what it wants prepacked, once; `preferred`: see `prefer`."""
        with _preparing:
            if preferred:
                self.prefer(backend)
            self.release()
            self._transform = ChannelTransform(self.channel_scale, self.rotation)
            self._made_of = tuple(self._buffers.values())
            exact = backend.supports(self.format.weight_bits, self.format.activation_bits)
            self._kernel = self._make_kernel(backend if exact else reference)
            if self.format.rank and isinstance(self._kernel, FusedConv2d | FusedLinear):
                self._kernel.take_branch(self._branch_reader())

    def _make_kernel(self, backend: Backend) -> Any:
        raise NotImplementedError

    def branch(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The low-rank pair for a dtype, down [rank, C, *kernel] folded to read x in place of x^; up^T [rank, O]."""
        if dtype not in self._branch:
            down, up = self.stored_branch()
            down = self._transform.fold(down).to(dtype)
            if down.ndim == 4:
                down = down.contiguous(memory_format=torch.channels_last)
            self._branch[dtype] = down, up.to(dtype).t().contiguous()
        return self._branch[dtype]

    def kernel(self) -> Any:
        """The prepared kernel; prepares the preferred or the fastest backend on first use, and again when buffers are
        others: a host's memory manager may put its own in their places, past `_apply`."""
        if not self._is_prepared():
            with _preparing:
                if not self._is_prepared():
                    self.prepare(preferred_backend(self.packed.device, self._preferred))
        return self._kernel

    def _is_prepared(self) -> bool:
        buffers = tuple(self._buffers.values())
        return (
            self._kernel is not None
            and len(buffers) == len(self._made_of)
            and all(a is b for a, b in zip(self._made_of, buffers, strict=True))
        )

    def release(self) -> None:
        """Forget the prepared kernel and all that was made of the buffers; made again on the next use."""
        self._kernel, self._made_of, self._transform, self._branch = None, (), None, {}

    def _apply(self, fn: Any, recurse: bool = True) -> QuantLayer:
        """Follows a model to another device, never to another dtype: scales keep what they were stored with."""
        for name, buffer in self._buffers.items():
            if buffer is not None:
                moved = fn(buffer)
                self._buffers[name] = moved if moved.dtype == buffer.dtype else buffer.to(moved.device)
        self.release()
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """The format goes into the state's metadata: without it the tensors mean nothing."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        metadata = getattr(destination, "_metadata", None)  # a caller's own dictionary has none
        if metadata is not None:
            metadata[prefix[:-1]]["format"] = asdict(self.format)

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: dict[str, Any], strict: bool, *messages: list[str]
    ) -> None:
        """Refuses tensors of another format, where the state says theirs.

        Values are copied into buffers that stay the same tensors: what was made of them has to go.
        """
        theirs = local_metadata.get("format", {})
        ours = {key: value for key, value in asdict(self.format).items() if theirs.get(key, value) != value}
        if ours:
            differing = ", ".join(f"{key} {theirs[key]}, here {value}" for key, value in ours.items())
            messages[-1].append(
                f"{prefix[:-1]} was quantized to another format ({differing}): load_quantized fills a model "
                "of full precision, whatever the format."
            )
            return
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *messages)
        self.release()

    def __getstate__(self) -> dict[str, Any]:
        """Copies without the kernel: a backend's prepacked weight cannot be copied; it is made again on use."""
        return {**self.__dict__, "_kernel": None, "_made_of": (), "_transform": None, "_branch": {}}

    def extra_repr(self) -> str:
        return f"{list(self.shape)}, {self.format}"
