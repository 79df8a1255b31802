"""What Triton makes of our kernels for GPUs that are not at hand: registers, shared memory, the loops' instructions.

    python benchmarks/gpu_compiled.py [--capabilities 80 86 89 90 120] [--kernels conv2d linear] [--json FILE]

Needs triton and no GPU: its own ptxas compiles for any. What to look for: registers that spill into memory within a
loop (LDL, STL), and instructions for one of the tensor cores'. A GeForce's tensor core takes 16 cycles for one of them,
and issues an instruction a cycle: with more than 4 a tensor core waits.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    os.environ.pop("TRITON_INTERPRET", None)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

CAPABILITIES = (80, 86, 89, 90, 120)


@dataclass(frozen=True)
class Compiled:
    """A kernel as it would run."""

    kernel: str
    capability: int
    registers: int
    stack: int  # bytes a thread
    shared: int  # bytes a program
    loop: int  # instructions of the innermost loop that multiplies on tensor cores
    products: int  # of them the tensor cores'
    spills: int  # of them to and from memory, for want of registers


@dataclass(frozen=True)
class Source:
    """A kernel with the arguments it mostly gets: pointers' types, constants, and what is no multiple of 16."""

    function: Any
    pointers: dict[str, str]
    constants: dict[str, Any]
    uneven: tuple[str, ...]
    options: dict[str, int]


def sources() -> dict[str, Source]:
    """By name: the products in their tiles, with all that an epilogue can have, and the passes before them."""
    from quantface_core.kernels.triton import launch, maps, product_kernels, tokens

    found = {}
    rounding = dict.fromkeys(("share", "smallest", "limit", "middle"), "fp32")
    for tile in launch.tiles_for(1280, 1280):
        constants = {
            "EVEN": True, "PAIR": True, "RANK": 16, "ROWS": tile.rows, "COLUMNS": tile.columns, "INPUTS": tile.inputs,
        }  # fmt: skip
        common = {"x": "*i8", "weight": "*i8", "out": "*bf16", "w_scale": "*fp32", "low": "*bf16", "up": "*bf16",
                  "skip": "*bf16"}  # fmt: skip
        options = {"num_warps": tile.warps, "num_stages": tile.stages}
        size = f"{tile.rows}x{tile.columns}"
        found[f"linear {size}"] = Source(
            product_kernels.linear, {**common, "x_scale": "*bf16", "bias": "*bf16"}, constants, ("count",), options
        )
        found[f"conv2d {size}"] = Source(
            product_kernels.conv2d, {**common, "x_scale": "*fp32", "bias": "*fp32", "totals": "*fp32"},
            {**constants, "KH": 3, "KW": 3, "PHASES": False, "GROUPED": True, "added": None,
             "stride_down": 1, "stride_across": 1},
            ("rows", "height", "width", "tall", "wide", "pad_down", "pad_across", "added_image"), options,
        )  # fmt: skip
    of_tokens = {"x": "*bf16", "matrix": "*bf16", "down": "*bf16", "codes": "*i8", "scales": "*bf16", "low": "*bf16"}
    of_norm: dict[str, Any] = {"weight": "*bf16", "bias": "*bf16"}
    for kind, gated in (("normed", False), ("gated", True)):
        found[f"tokens {kind}"] = Source(
            tokens._tokens, of_tokens | {"eps": "fp32", **rounding} | ({} if gated else of_norm),
            {"factors": None, "SUMS": True, "GATED": gated, "RANK": 64, "ROWS": 16, "SIZE": 64, "BLOCK": 64,
             "GROUP": tokens._WIDTH // 64, "PIECES": 5} | (dict.fromkeys(of_norm) if gated else {}),
            ("count",), tokens.OPTIONS,
        )  # fmt: skip
    found["balanced"] = Source(
        maps._balanced,
        {"x": "*bf16", "factors": "*fp32", "scales": "*bf16", "matrix": "*bf16", "out": "*bf16", "largest": "*fp32"},
        {"SILU": True, "CHANGES": True, "SIZE": 64, "BLOCK": 64, "ROWS": 128}, ("tiles", "pixels"),
        maps.OPTIONS,
    )  # fmt: skip
    return found


def compiled(name: str, source: Source, capability: int) -> Compiled:
    """A kernel compiled for a capability, and what its machine code is made of."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = source.function.arg_names
    signature = {n: source.pointers.get(n, "i32") for n in names} | dict.fromkeys(source.constants, "constexpr")
    whole = [n for n in names if signature[n] == "i32" or signature[n].startswith("*")]
    attributes = {(names.index(n),): [["tt.divisibility", 16]] for n in whole if n not in source.uneven}
    built = triton.compile(
        ASTSource(fn=source.function, signature=signature, constexprs=source.constants, attrs=attributes),
        target=GPUTarget("cuda", capability, 32),
        options={**source.options, "enable_fp_fusion": False},
    )
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(built.asm["cubin"])
        file.flush()
        shown = subprocess.run([tools / "nvdisasm", "-c", file.name], capture_output=True, text=True, check=True)
        used = subprocess.run(
            [tools / "cuobjdump", "-res-usage", file.name], capture_output=True, text=True, check=True
        )
    registers, stack = (int(n) for n in re.search(r"REG:(\d+) STACK:(\d+)", used.stdout).groups())  # type: ignore[union-attr]
    mix = min(loops(shown.stdout), key=lambda counted: counted.total(), default=Counter[str]())
    products = sum(n for op, n in mix.items() if "MMA" in op)
    return Compiled(
        name, capability, registers, stack, built.metadata.shared, mix.total(), products, mix["LDL"] + mix["STL"]
    )


def loops(assembly: str) -> Iterator[Counter[str]]:
    """The instructions, by name, of every loop that multiplies on tensor cores: from a label to the branch to it."""
    lines = assembly.splitlines()
    labels = {m[1]: i for i, line in enumerate(lines) if (m := re.match(r"\s*\.(L_x_\d+):", line))}
    for i, line in enumerate(lines):
        back = re.search(r"BRA\S*\s+(?:!?U?P\d+,\s*)?`\(\.(L_x_\d+)\)", line)
        if back and labels.get(back[1], i) < i:
            found = (
                re.search(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+\s+)?([A-Z0-9_]+)", inside)
                for inside in lines[labels[back[1]] : i + 1]
            )
            mix = Counter(one[1] for one in found if one)
            if any("MMA" in op for op in mix):
                yield mix


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--capabilities", nargs="+", type=int, default=list(CAPABILITIES))
    parser.add_argument("--kernels", nargs="+", help="those whose names begin so; default: all")
    parser.add_argument("--json", type=Path, help="write the rows here")
    arguments = parser.parse_args()
    rows = []
    for name, source in sources().items():
        if arguments.kernels and not name.startswith(tuple(arguments.kernels)):
            continue
        for capability in arguments.capabilities:
            rows.append(compiled(name, source, capability))
            print(rows[-1], flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    main()
