"""Compile our Triton kernels for GPUs that are not available: registers, shared memory, the loops' instructions.

    python benchmarks/gpu_compiled.py [--capabilities 86 90] [--dtypes bf16 fp32] [--kernels conv2d] [--json FILE]

Needs triton but no GPU: its own ptxas compiles for any. What to look for: registers that spill to memory within a loop
(LDL, STL), and the number of instructions per tensor-core instruction. A GeForce's tensor core takes 16 cycles for one
of its own, and one instruction is issued per cycle: with more than 4 the tensor core waits.
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
from itertools import product
from pathlib import Path

if __name__ == "__main__":
    os.environ.pop("TRITON_INTERPRET", None)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpu_kernels import Source, sources

CAPABILITIES = (80, 86, 89, 90, 120)
DTYPES = ("bf16", "fp16", "fp32")


@dataclass(frozen=True)
class Compiled:
    """A kernel's machine code in figures."""

    kernel: str
    dtype: str  # of the layers' inputs and results
    capability: int
    registers: int
    stack: int  # bytes per thread
    shared: int  # bytes per program
    loop: int  # instructions in the innermost loop that uses tensor cores; 0 where there is none or it is not read
    products: int  # of these, tensor-core instructions
    spills: int  # of these, loads and stores of spilled registers


def compiled(name: str, dtype: str, source: Source, capability: int, loop: bool = True) -> Compiled:
    """Compile a kernel for a capability and analyse its machine code.

    loop=False: read its loop only if it has a stack, without which nothing is spilled; reading takes longest.
    """
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

        def shown(*command: str) -> str:
            whole = [str(tools / command[0]), *command[1:], file.name]
            return subprocess.run(whole, capture_output=True, text=True, check=True).stdout

        used = re.search(r"REG:(\d+) STACK:(\d+)", shown("cuobjdump", "-res-usage"))
        registers, stack = (int(n) for n in used.groups())  # type: ignore[union-attr]
        assembly = shown("nvdisasm", "-c") if loop or stack else ""
    mix = min(loops(assembly), key=lambda counted: counted.total(), default=Counter[str]())
    products = sum(n for op, n in mix.items() if "MMA" in op)
    return Compiled(
        name, dtype, capability, registers, stack, built.metadata.shared, mix.total(), products, mix["LDL"] + mix["STL"]
    )


def loops(assembly: str) -> Iterator[Counter[str]]:
    """Instruction counts, by name, of every loop that uses tensor cores: from a label to the branch back to it."""
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


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--capabilities", nargs="+", type=int, default=list(CAPABILITIES))
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--kernels", nargs="+", help="only kernels whose names start with one of these")
    parser.add_argument("--loops", nargs="+", help="read the loops of these kernels only, and of those with a stack")
    parser.add_argument("--json", type=Path, help="write the rows here")
    arguments = parser.parse_args(given)
    rows = []
    for dtype, capability in product(arguments.dtypes, arguments.capabilities):
        for name, source in sources(dtype).items():
            if not arguments.kernels or name.startswith(tuple(arguments.kernels)):
                loop = not arguments.loops or name.startswith(tuple(arguments.loops))
                rows.append(compiled(name, dtype, source, capability, loop))
                print(rows[-1], flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    main()
