"""Our Triton kernels in the tiles and with the arguments of a full-size model, to be compiled without a GPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Source:
    """A kernel with its usual arguments: pointer types, constants, and integers that are no multiple of 16."""

    function: Any
    pointers: dict[str, str]
    constants: dict[str, Any]
    uneven: tuple[str, ...]
    options: dict[str, int]


_ROUNDING = dict.fromkeys(("share", "smallest", "lowest", "highest", "middle"), "fp32")


def sources(dtype: str = "bf16") -> dict[str, Source]:
    """All kernels by name, in the tiles and with the arguments of a full-size model, and stripped of options.

    Unpacking weights is among those of bfloat16 alone: it knows no other dtype.
    """
    found = {**_products(dtype), **_passes(dtype), **_small_ones()}
    if dtype == "bf16":
        return found
    return {name: _in_dtype(source, dtype) for name, source in found.items() if "*bf16" in source.pointers.values()}


def _in_dtype(source: Source, dtype: str) -> Source:
    """A source of bfloat16 in another dtype, whose codes are rounded without sums (`rounding.rounding`)."""
    pointers = {name: f"*{dtype}" if kind == "*bf16" else kind for name, kind in source.pointers.items()}
    constants = {name: False if name == "SUMS" else value for name, value in source.constants.items()}
    return replace(source, pointers=pointers, constants=constants)


def _products(dtype: str) -> dict[str, Source]:
    """Products in their tiles with every epilogue option, and one without: three channels, four phases at once."""
    from quantface_core.kernels.triton import launch
    from quantface_core.kernels.triton.product_kernels import conv2d, conv2d_joined, conv2d_part, linear

    types = {"x": "*i8", "weight": "*i8", "out": "*bf16", "w_scale": "*fp32"}
    added = {"low": "*bf16", "up": "*bf16", "skip": "*bf16"}
    of_linear = {"x_scale": "*bf16", "bias": "*fp32" if dtype == "fp16" else "*bf16"}  # see `reference.product_dtype`
    of_conv = {"x_scale": "*fp32", "bias": "*fp32"}
    sizes = ("rows", "height", "width", "tall", "wide", "pad_down", "pad_across", "added_image")
    found = {}
    for tile in launch.tiles_for(1280, 1280):
        constants = _of_tile(tile, True)
        name, options = f"{tile.rows}x{tile.columns}", {"num_warps": tile.warps, "num_stages": tile.stages}
        found[f"linear {name}"] = Source(linear, types | added | of_linear, constants, ("count",), options)
        found[f"conv2d {name}"] = Source(
            conv2d, types | added | of_conv | {"totals": "*fp32"},
            constants | {"KH": 3, "KW": 3, "PHASES": False, "GROUPED": True, "added": None, "stride_down": 1,
                         "stride_across": 1},
            sizes, options,
        )  # fmt: skip
    conv = {"KH": 3, "KW": 3, "stride_down": 1, "stride_across": 1}
    whole = {name: value for name, value in constants.items() if name != "RANK"}
    found["conv2d in parts"] = Source(
        conv2d_part, {"x": "*i8", "weight": "*i8", "partial": "*i32"}, whole | conv, (*sizes, "each"), options
    )
    found["conv2d of its parts"] = Source(
        conv2d_joined, {"partial": "*i32", "out": "*bf16", "w_scale": "*fp32", "totals": "*fp32"} | added | of_conv,
        {"GROUPED": True, "RANK": 16, "ROWS": tile.rows, "COLUMNS": tile.columns, "added": None},
        (*sizes, "parts"), {"num_warps": tile.warps, "num_stages": 3},
    )  # fmt: skip
    tile = launch.tiles_for(3, 3)[-1]
    nothing = dict.fromkeys([*added, "totals"])
    found["conv2d of three channels"] = Source(
        conv2d, types | of_conv | {"added": "*bf16"},
        _of_tile(tile, False) | nothing | {"KH": 2, "KW": 2, "PHASES": True, "GROUPED": False, "stride_down": 1,
                                           "stride_across": 1},
        (*sizes, "channels", "outputs", "out_image", "out_row", "out_column", "rank"),
        {"num_warps": tile.warps, "num_stages": tile.stages},
    )  # fmt: skip
    return found


def _of_tile(tile: Any, even: bool) -> dict[str, Any]:
    return {
        "EVEN": even, "PAIR": tile.pair, "RANK": 16, "ROWS": tile.rows, "COLUMNS": tile.columns, "INPUTS": tile.inputs,
    }  # fmt: skip


def _passes(dtype: str) -> dict[str, Source]:
    """Passes before the products: tokens after a norm, a gate or nothing; maps with all options, and with none.

    Those that rotate in blocks of 64, and of 128 where the dtype's kernels rotate as many.
    """
    found = {**_token_passes(dtype, 64), **_map_passes(dtype, 64)}
    if dtype != "fp32":
        large = {**_token_passes(dtype, 128), **_map_passes(dtype, 128)}
        found |= {f"{name}, block of 128": source for name, source in large.items() if "matrix" in source.pointers}
    return found


def _torch(dtype: str) -> Any:
    import torch

    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[dtype]


def _token_passes(dtype: str, block: int) -> dict[str, Source]:
    from quantface_core.kernels.triton import tokens

    found = {}
    types = {"x": "*bf16", "codes": "*i8", "scales": "*bf16", "eps": "fp32", **_ROUNDING}
    mixed, low = {"matrix": "*bf16"}, {"down": "*bf16", "low": "*bf16"}
    norm, every = {"weight": "*bf16", "bias": "*bf16"}, ("matrix", "down", "low", "weight", "bias", "factors")
    kinds: dict[str, tuple[dict[str, str], bool, int]] = {
        "normed": (mixed | low | norm, False, 64), "gated": (mixed | low, True, 16),
        "gated, of a high rank": (mixed | low, True, 32), "plain": ({"factors": "*bf16"}, False, 0),
    }  # fmt: skip
    for kind, (given, gated, rank) in kinds.items():
        width, options = tokens.piece_of(_torch(dtype), block, gated, rank)
        constants = dict.fromkeys(name for name in every if name not in given) | {
            "SUMS": True, "GATED": gated, "RANK": max(16, rank), "ROWS": 16, "SIZE": block, "BLOCK": block,
            "GROUP": width // block, "PIECES": 5,
        }  # fmt: skip
        found[f"tokens {kind}"] = Source(tokens._tokens, types | given, constants, ("count", "rank"), options)
    return found


def _map_passes(dtype: str, block: int) -> dict[str, Source]:
    from quantface_core.kernels.triton import maps

    found = {}
    types = {"x": "*bf16", "out": "*bf16", "largest": "*fp32"}
    more = {"factors": "*fp32", "scales": "*bf16", "matrix": "*bf16"}
    shape = {"SIZE": block, "BLOCK": block, "ROWS": maps.rows_of(_torch(dtype))}
    sizes = ("tiles", "pixels")
    found["balanced"] = Source(
        maps._balanced, types | more, shape | {"SILU": True, "CHANGES": True}, sizes, maps.OPTIONS
    )
    nothing = dict.fromkeys(more) | {"SILU": False, "CHANGES": False}
    found["balanced, plain"] = Source(maps._balanced, types, shape | nothing, (*sizes, "channels"), maps.OPTIONS)
    return found


def _small_ones() -> dict[str, Source]:
    """Elementwise kernels and reductions: codes, norms and weights."""
    from quantface_core.kernels.triton import maps, norm, unpack

    plain = {"num_warps": 4, "num_stages": 3}
    return {
        "codes": Source(
            maps._image_codes, {"x": "*bf16", "largest": "*fp32", "codes": "*i8", "scales": "*fp32", **_ROUNDING},
            {"SUMS": True, "PIECE": 4096, "PARTS": 1024}, ("pieces", "parts"), plain,
        ),
        "sums": Source(norm._sums, {"x": "*bf16", "sums": "*fp32"}, {"CHANNELS": 128, "PIXELS": 64}, (), plain),
        "factors": Source(
            norm._factors,
            {"sums": "*fp32", "weight": "*bf16", "bias": "*bf16", "factors": "*fp32", "eps": "fp32"},
            {"SIZE": 8, "SLABS": 128}, ("size", "slabs"), plain,
        ),
        "normalized": Source(
            norm._normalized, {"x": "*bf16", "factors": "*fp32", "y": "*bf16"}, {"PIECE": 4096}, (), plain
        ),
        "unpacked": Source(
            unpack._unpacked, {"packed": "*u8", "codes": "*i8"}, {"BITS": 6, "PIECE": 1024}, ("size", "taps"), plain
        ),
    }  # fmt: skip
