"""Integer products on tensor cores, and all that is done to their results before they are written.

A convolution is an implicit product of matrices: every row of the left one is what an output pixel reads, found in
the map as it is needed. What a low-rank branch, a residual connection and the time of a diffusion step add is added to
the tile that a program holds, rounded after each as if by itself.
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

    low: Tensor | None = None  # [.., r], what a branch's `down` gives; `grouped`: see `branch.Branch.low`
    up: Tensor | None = None  # [r, O]
    grouped: bool = False
    channel_bias: Tensor | None = None  # [B, O] or [1, O]
    skip: Tensor | None = None  # as the result


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
    """Codes [N, K] and weight [O, K], int8; w_scale [O] float32, x_scale [N, 1], bias [O] -> [N, O] as x_scale."""
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

    Written to out [B, H', W', O]; what is read beyond the map is zero. A weight [4, O, 2, 2, C] is the four phases of a
    picture with doubled pixels, whose sides out has. With `sums` the result's, for a norm: [B, slabs, 2, O] float32, or
    None where tiles and images do not end together.
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
    if made is None:
        return None
    if phases:  # slabs of a phase lie together, images within: their sums are wanted by image
        return made.view(4, batch, -1, 2, outputs).transpose(0, 1).reshape(batch, -1, 2, outputs)
    return made.view(batch, -1, 2, outputs)


def _constants(tile: launch.Tile, inputs: int, rank: int) -> dict[str, int | bool]:
    """What both kernels are compiled for."""
    return {
        "EVEN": inputs % tile.step == 0, "PAIR": tile.pair, "RANK": max(16, triton.next_power_of_2(rank)),
        "ROWS": tile.rows, "COLUMNS": tile.columns, "INPUTS": tile.inputs,
        "num_warps": tile.warps, "num_stages": tile.stages,
    }  # fmt: skip
