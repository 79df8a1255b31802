"""Count what one face costs on a GPU, without one: launches, bytes and multiplications, by part of the restorer.

    python benchmarks/gpu_launches.py [--bits bf16 w4a4] [--faces 1] [--processors 28] [--layers] [--json FILE]

A full-size forward pass runs on torch's meta device, with the `triton` backend's launches recorded instead of made.
Every operand's bytes count once, as if caches did the rest; a convolution's bias, a large vector norm and a sort launch
kernels of their own and are counted as such. Whatever waits for the device or makes a tensor from a host value cannot
be captured in a CUDA graph: it is listed as `host`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

if __name__ == "__main__":
    os.environ.pop("TRITON_INTERPRET", None)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpu_recorder import Launch, recording

from quantface_core.io.recipes import load_recipe
from quantface_core.nn.swap import empty_like, quantizable, swap
from quantface_core.restorer import OSDFACE, OneStepRestorer, RestorerConfig
from quantface_core.stages.quantize import restorer_formats
from quantface_core.types import Bits

PARTS = ("embedder", "encoder", "unet", "decoder")


def meta_restorer(bits: str, config: RestorerConfig = OSDFACE) -> OneStepRestorer:
    """A restorer on the meta device as a GPU would run it: channels last, bfloat16, with low-bit layers for `triton`.

    The low-bit layers are those of OSDFace's recipes.
    """
    with torch.device("meta"):
        restorer = OneStepRestorer(config).eval().requires_grad_(False)
        if bits != "bf16":
            weight_bits, activation_bits = Bits.parse(bits)
            recipe = load_recipe("osdface-w4a4").quantize
            settings = replace(recipe, weight_bits=weight_bits, activation_bits=activation_bits)
            layers = quantizable(restorer)
            swap(restorer, {n: empty_like(layers[n], f) for n, f in restorer_formats(restorer, settings).items()})
    restorer.to(torch.bfloat16, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return restorer


def launches(restorer: OneStepRestorer, faces: int = 1, processors: int = 132) -> list[Launch]:
    """All launches of the four parts for some faces at once, on a GPU with so many multiprocessors."""
    found: list[Launch] = []
    size = restorer.config.image_size
    image = torch.empty(faces, 3, size, size, device="meta")
    work = _parts(restorer, image)
    with recording(restorer, processors) as recorder, torch.no_grad():
        for _ in range(2):  # the first pass makes what is cached, such as prepacked weights
            recorder.found = found = []
            for part, run in zip(PARTS, work, strict=True):
                recorder.part = part
                run()
    return found


@cache
def recorded(bits: str, processors: int) -> list[Launch]:
    """The launches of one face at some bits, which for bfloat16 are alike on every GPU."""
    return launches(meta_restorer(bits), processors=processors) if bits != "bf16" else _in_bfloat16()


@cache
def _in_bfloat16() -> list[Launch]:
    return launches(meta_restorer("bf16"))


def _parts(restorer: OneStepRestorer, image: Tensor) -> list[Callable[[], None]]:
    made: dict[str, Any] = {}

    def keep(name: str, run: Callable[[], Any]) -> Callable[[], None]:
        return lambda: made.update({name: run()})

    return [
        keep("prompt", lambda: restorer.embedder(image.to(restorer.dtype))),
        keep("latent", lambda: restorer.encode(image)),
        keep("restored", lambda: restorer.predict(made["latent"], made["prompt"])),
        keep("picture", lambda: restorer.decode(made["restored"])),
    ]


def totals(found: list[Launch]) -> dict[str, dict[str, float]]:
    """By part and in total: launches (kernels), GB, multiply-accumulates, those of int8, and what the host does."""
    rows: dict[str, dict[str, float]] = {}
    for part in (*PARTS, "all"):
        here = [one for one in found if part in (one.part, "all")]
        rows[part] = {
            "launches": sum(one.kernels for one in here),
            "GB": sum(one.bytes for one in here) / 1e9,
            "GMAC": sum(one.macs for one in here) / 1e9,
            "int8 GMAC": sum(one.macs for one in here if one.unit == "int8") / 1e9,
            "host": sum(one.kind == "host" for one in here),
        }
    return rows


def main() -> None:
    from report import table

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bits", nargs="+", default=["bf16", "w4a4"])
    parser.add_argument("--faces", type=int, default=1, help="restored at once")
    parser.add_argument("--processors", type=int, default=132, help="the GPU's multiprocessors, on which tiles depend")
    parser.add_argument("--layers", action="store_true", help="also list operations")
    parser.add_argument("--json", type=Path, help="write every launch here")
    arguments = parser.parse_args()
    written = {}
    for bits in arguments.bits:
        found = launches(meta_restorer(bits), arguments.faces, arguments.processors)
        rows = totals(found)
        print(table([bits, *rows["all"]], [[part, *row.values()] for part, row in rows.items()], 1), flush=True)
        if arguments.layers:
            for name, count in Counter(f"{one.kind} {one.name}" for one in found).most_common():
                size = sum(one.bytes for one in found if f"{one.kind} {one.name}" == name)
                print(f"{count:6d} {size / 1e6:10.1f} MB {name}")
        written[bits] = [asdict(one) for one in found]
    if arguments.json:
        arguments.json.write_text(json.dumps(written))


if __name__ == "__main__":
    main()
