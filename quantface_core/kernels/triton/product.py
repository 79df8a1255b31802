"""Integer products on tensor cores, with epilogues: what is done to a result before it is written.

A convolution is an implicit matrix product: each row of the left matrix is what an output pixel reads, loaded from
the map as it is needed. The low-rank branch, the residual connection and the time embedding of a diffusion step are
added to the tile that a program holds, with a rounding after each, as by separate ops.
"""

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from . import launch
from .product_kernels import conv2d, conv2d_joined, conv2d_part, linear


@dataclass(frozen=True)
class Epilogue:
    """What is added to a product's result [.., O], in this order."""

    low: Tensor | None = None  # [.., r], the result of a branch's `down`; `grouped`: see `branch.Branch.low`
    up: Tensor | None = None  # [r, O]
    grouped: bool = False
    channel_bias: Tensor | None = None  # [B, O] or [1, O]
    skip: Tensor | None = None  # in the result's shape


NO_EPILOGUE = Epilogue()


def linear_product(
    codes: Tensor,
    weight: Tensor,
    w_scale: Tensor,
    x_scale: Tensor,
    bias: Tensor | None,
    epilogue: Epilogue = NO_EPILOGUE,
    tile: launch.Tile | None = None,
) -> Tensor:
    """Codes [N, K] and weight [O, K], int8; w_scale [O] float32, x_scale [N, 1], bias [O] -> [N, O] like x_scale."""
    (count, inputs), outputs = codes.shape, len(weight)
    out = torch.empty(count, outputs, dtype=x_scale.dtype, device=codes.device)
    tile = tile or launch.tile_of(count, outputs, inputs, codes.device)
    rank = 0 if epilogue.low is None else epilogue.low.shape[1]
    launch.start(
        linear, (triton.cdiv(count, tile.rows) * triton.cdiv(outputs, tile.columns),),
        codes, weight, out, w_scale, x_scale, bias, epilogue.low, epilogue.up, epilogue.skip,
        count, inputs, outputs, rank,
        **_constants(tile, inputs, rank),
    )  # fmt: skip
    return out


def conv2d_product(
    codes: Tensor,
    weight: Tensor,
    w_scale: Tensor,
    x_scale: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    out: Tensor,
    epilogue: Epilogue = NO_EPILOGUE,
    tile: launch.Tile | None = None,
    sums: bool = False,
) -> Tensor | None:
    """Codes [B, H, W, C] and weight [O, kh, kw, C], int8; w_scale and bias [O], x_scale [B] float32.

    Written to out [B, H', W', O]; what is read beyond the map is zero. A weight [4, O, 2, 2, C] holds the four phases
    of a 2x upsampled map, whose sides out has. With `sums`, returns the result's channel sums, for a norm: [B, slabs,
    2, O] float32, or None where an image does not fill whole tiles.
    """
    phases = weight.ndim == 5
    (_, height, width, channels), (batch, tall, wide, outputs) = codes.shape, out.shape
    if phases:
        tall, wide = tall // 2, wide // 2
    rows = batch * tall * wide
    tile = tile or launch.tile_of(rows, outputs, channels, codes.device)
    slabs, whole = triton.cdiv(rows, tile.rows), tall * wide % tile.rows == 0
    rank = 0 if epilogue.low is None else epilogue.low.shape[3] // (4 if epilogue.grouped else 1)
    shape = slabs * (4 if phases else 1), 2, outputs
    made = torch.empty(shape, dtype=torch.float32, device=out.device) if sums and whole else None
    programs = slabs * triton.cdiv(outputs, tile.columns)
    taps = {"KH": weight.shape[-3], "KW": weight.shape[-2]}
    steps = taps["KH"] * taps["KW"] * triton.cdiv(channels, tile.step)
    each = steps if phases else launch.steps_of_part(programs, steps, codes.device)
    operands = w_scale, x_scale, bias, epilogue.low, epilogue.up, epilogue.channel_bias, epilogue.skip, made
    places = out.stride(0), out.stride(1), out.stride(2)
    more = rank, 0 if epilogue.channel_bias is None or len(epilogue.channel_bias) == 1 else outputs
    constants = _constants(tile, channels, rank)
    if each == steps:
        launch.start(
            conv2d, (programs, 4 if phases else 1), codes, weight, out, *operands,
            rows, height, width, channels, outputs, tall, wide, *places, *stride, *padding, *more,
            **taps, PHASES=phases, GROUPED=epilogue.grouped, **constants,
        )  # fmt: skip
    else:
        parts = triton.cdiv(steps, each)
        partial = torch.empty(parts, rows, outputs, dtype=torch.int32, device=codes.device)
        branch = {"RANK": constants.pop("RANK")}
        launch.start(
            conv2d_part, (programs, parts), codes, weight, partial,
            rows, height, width, channels, outputs, tall, wide, *stride, *padding, each, **taps, **constants,
        )  # fmt: skip
        launch.start(
            conv2d_joined, (programs,), partial, out, *operands, rows, outputs, tall, wide, *places, *more, parts,
            GROUPED=epilogue.grouped, **branch, ROWS=tile.rows, COLUMNS=tile.columns, num_warps=tile.warps,
        )  # fmt: skip
    return None if made is None else _by_image(made, batch, 4 if phases else 1)


def _by_image(sums: Tensor, batch: int, phases: int) -> Tensor:
    """Channel sums of slabs, ordered by phase and then by image [phases * B * slabs, 2, O] -> [B, slabs, 2, O]."""
    return sums.unflatten(0, (phases, batch, -1)).transpose(0, 1).flatten(1, 2)


def _constants(tile: launch.Tile, inputs: int, rank: int) -> dict[str, int | bool]:
    """Compile-time constants and launch options of the linear and convolution kernels."""
    return {
        "EVEN": inputs % tile.step == 0, "PAIR": tile.pair, "RANK": max(16, triton.next_power_of_2(rank)),
        "ROWS": tile.rows, "COLUMNS": tile.columns, "INPUTS": tile.inputs,
        "num_warps": tile.warps, "num_stages": tile.stages,
    }  # fmt: skip
