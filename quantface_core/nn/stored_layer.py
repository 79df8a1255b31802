"""What a low-bit layer stores: its buffers, as a checkpoint holds them, and how they change and move.

    y = Q(x^) Q(W^)^T + (x^ down^T) up^T + bias        x^ = (x * channel_scale) H

`channel_scale` is 1/s of docs/method.md, section 2; H is the rotation the format names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..kernels.backend import ActivationFormat
from ..kernels.balance import branch_codes, branch_values, branch_weight, per_row
from ..kernels.bitpack import pack, packed_size
from ..kernels.channel_transform import ChannelTransform
from ..kernels.fusion import StoredBranch
from ..kernels.hadamard import Rotation
from ..kernels.quantize import dequantize
from ..kernels.weight import LowBitWeight
from ..types import FLOAT_BRANCH, LayerFormat
from .dequantized_weight import DequantizedWeight


def _branch_values(
    down: Tensor, down_scale: Tensor | None, up: Tensor, up_scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    if down_scale is None or up_scale is None:
        return down, up
    return branch_values(down, down_scale), branch_values(up, up_scale)


class StoredLayer(nn.Module):
    """Buffers of a low-bit layer, in the dtypes a checkpoint stores. They take no gradients: see trainable.py.

    packed [bytes] uint8, weight_scale [O] float32, channel_scale [C] float32, bias [O] float32 or None; where the
    format has a rank, down [rank, C, *kernel] and up [O, rank]: float16, or int8 with down_scale [rank] and
    up_scale [O] float32. Where the producer of x has absorbed a layer's balance (`nn/fold.py`), `channel_scale` holds
    the rotation's signs, which cancel the rotation's own.

    `placeholder` is an empty parameter in the model's dtype, in no state dict: networks ask their first parameter for
    the dtype and device to compute in.
    """

    packed: Tensor
    weight_scale: Tensor
    channel_scale: Tensor
    bias: Tensor | None
    down: Tensor
    up: Tensor
    down_scale: Tensor
    up_scale: Tensor
    placeholder: nn.Parameter

    def __init__(self, shape: tuple[int, ...], fmt: LayerFormat, bias: bool) -> None:
        super().__init__()
        self.shape, self.format = tuple(shape), fmt
        outputs, channels = shape[:2]
        count = torch.Size(shape).numel()
        self.placeholder = nn.Parameter(torch.empty(0), requires_grad=False)
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

    @property
    def rotation(self) -> Rotation:
        """The rotation of the input channels that the format names."""
        return Rotation(self.shape[1], self.format.block, self.format.seed)

    @property
    def weight(self) -> Tensor:
        """`effective_weight` in the model's dtype, computed when its values are used; for code that reads `weight`."""
        if self.packed.is_meta:  # offloaded, and asked for its dtype or shape
            return self.packed.new_empty(self.shape, dtype=self.placeholder.dtype)
        return DequantizedWeight(self.shape, self.placeholder.dtype, self.packed.device, self.effective_weight)

    def effective_weight(self) -> Tensor:
        """The weight on unbalanced x, [O, C, *kernel] float32, with the low-rank branch."""
        codes = self.stored_weight().codes()
        balanced = dequantize(codes, per_row(self.weight_scale, codes))
        if self.format.rank:
            balanced = balanced + branch_weight(*self.stored_branch())
        return ChannelTransform(self.channel_scale, self.rotation).fold(balanced)

    @property
    def activations(self) -> ActivationFormat:
        """How the format quantizes the layer's activations."""
        return ActivationFormat(self.format.activation_bits, self.format.clip, self.format.zero_point)

    def stored_weight(self) -> LowBitWeight:
        """The balanced weight as it is stored, for a backend."""
        return LowBitWeight(self.packed, self.weight_scale, self.format.weight_bits, self.shape)

    def stored_branch(self) -> tuple[Tensor, Tensor]:
        """(down [rank, C, *kernel], up [O, rank]) float16, over balanced inputs; only for a format with a rank."""
        return self._branch_reader()()

    def _branch_reader(self) -> StoredBranch:
        """A function that reads the branch. It holds the buffers, not the layer: so the layer's kernel may hold it."""
        if self.format.branch_bits != FLOAT_BRANCH:
            return partial(_branch_values, self.down, self.down_scale, self.up, self.up_scale)
        return partial(_branch_values, self.down, None, self.up, None)

    def set_branch(self, down: Tensor, up: Tensor) -> None:
        """Store down [rank, C, *kernel] and up [O, rank], of the format's rank, rounded as the format stores them."""
        # Contiguous, as a file will hold them: strides decide the order in which a product sums.
        down, up = down.contiguous(), up.contiguous()
        if self.format.branch_bits != FLOAT_BRANCH:
            self.down, self.down_scale = branch_codes(down)
            self.up, self.up_scale = branch_codes(up)
        else:
            self.down, self.up = down.half(), up.half()
        self.release()

    def multiply_outputs(self, rows: slice, factors: Tensor) -> None:
        """Multiply some outputs by factors [rows], none of them zero: magnitudes go into scales, signs into codes."""
        weight, scale = self.stored_weight().codes(), self.weight_scale.clone()
        weight[rows] *= per_row(factors.sign().to(weight.dtype), weight)
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

    def set_channel_scale(self, channel_scale: Tensor) -> None:
        """Replace the scales [C] float32 that input channels are multiplied by before the rotation."""
        self.channel_scale = channel_scale
        self.release()

    def release(self) -> None:
        """Drop what was derived from the buffers; called whenever these change."""
        raise NotImplementedError

    def _apply(self, fn: Any, recurse: bool = True) -> StoredLayer:
        """Move to another device with the model, never to another dtype: buffers keep the dtypes of a checkpoint."""
        with torch.no_grad():
            self._hold_place(fn(self.placeholder))
        for name, buffer in self._buffers.items():
            if buffer is not None:
                moved = fn(buffer)
                kept = moved if moved.dtype == buffer.dtype else buffer.to(moved.device)
                self._buffers[name] = kept.contiguous()  # as files hold them: strides set the order of a product's sums
        self.release()
        return self

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """As of any module; none with `recurse` off: what moves a module's own tensors reads them from its state."""
        return super().named_parameters(prefix, recurse, remove_duplicate) if recurse else iter(())

    def _hold_place(self, like: Tensor) -> None:
        self.placeholder = nn.Parameter(like.detach().new_empty(0), requires_grad=False)

    def follow_dtype(self, dtype: torch.dtype) -> None:
        """Set the dtype of `weight`: that of the model around the layer."""
        self._hold_place(self.placeholder.to(dtype))

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Put the format into the state dict's metadata: without it the tensors mean nothing."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination.pop(f"{prefix}placeholder", None)  # replicas of torch's DataParallel have no parameters
        metadata = getattr(destination, "_metadata", None)  # a caller's own dictionary has none
        if metadata is not None:
            metadata[prefix[:-1]]["format"] = asdict(self.format)

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: dict[str, Any], strict: bool, *messages: list[str]
    ) -> None:
        """Report tensors of another format as an error, where the state dict names their format.

        Values are copied into the existing buffers: what was derived from these has to be released.
        """
        theirs = local_metadata.get("format", {})
        ours = {key: value for key, value in asdict(self.format).items() if theirs.get(key, value) != value}
        if ours:
            differing = ", ".join(f"{key} {theirs[key]}, here {value}" for key, value in ours.items())
            messages[-1].append(
                f"{prefix[:-1]} was quantized to another format ({differing}): use load_quantized, "
                "which fills a full-precision model from a file of any format."
            )
            return
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *messages)
        messages[0][:] = [name for name in messages[0] if name != f"{prefix}placeholder"]  # the missing ones
        self._hold_place(self.packed.new_empty(0, dtype=self.placeholder.dtype))  # tensors may be assigned, not copied
        self.release()

    def extra_repr(self) -> str:
        return f"{list(self.shape)}, {self.format}"
