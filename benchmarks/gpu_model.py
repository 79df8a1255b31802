"""How long a face would take on GPUs that are not at hand: a model of its launches, no measurement.

    python benchmarks/gpu_model.py [--bits bf16 w4a4] [--cautious]

Every launch of `gpu_launches.py` takes a moment to start and then the longer of its bytes over the memory's speed (the
cache's, where they fit) and its multiplications over the tensor cores', of which kernels reach a share: of an H100's
bfloat16 the one with which the model agrees with a measured face (20 ms), the others after published measurements of
like kernels. Errors of 15 % on an H100 and of 25 % on a GeForce are likely; `--cautious` takes the lowest share that
was published for products of bytes. "Eager" is the longer of this and of what a processor takes to start the kernels.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    os.environ.pop("TRITON_INTERPRET", None)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gpu_launches import Launch, launches, restorer_without_numbers

STARTING = 10e-6  # seconds a processor takes to start a kernel: a desktop's; a rented H100's took 40 (measured)


@dataclass(frozen=True)
class Card:
    """A GPU. GeForce multiplies bfloat16, with sums in float32, at a quarter of the speed of bytes."""

    processors: int
    memory: float  # bytes a second, as reached
    cached: float  # the same, of what fits the cache
    cache: float  # bytes
    floats: float  # bfloat16 operations a second, dense
    bytes: float  # int8 operations a second, dense
    moment: float  # seconds that a kernel takes at least, in a graph
    data_center: bool = False


CARDS = {
    "H100": Card(132, 2.90e12, 5.5e12, 50e6, 990e12, 1979e12, 1.4e-6, True),
    "RTX 3060": Card(28, 3.25e11, 0.9e12, 3e6, 25.5e12, 102e12, 1.6e-6),
    "RTX 4060 Ti": Card(34, 2.62e11, 1.3e12, 32e6, 44.1e12, 176.5e12, 1.4e-6),
    "RTX 4090": Card(128, 9.20e11, 3.8e12, 72e6, 165.2e12, 660.6e12, 1.4e-6),
}
# Shares of the peak that kernels reach: products of bytes by their tile's shorter side.
_TILES = {True: {128: 0.45, 64: 0.28, 32: 0.15, 16: 0.08}, False: {128: 0.60, 64: 0.45, 32: 0.30, 16: 0.15}}
_CAUTIOUS = 0.75  # of these: 0.45 in place of 0.60
_FLOATS = {True: 0.50, False: 0.80}
_FLASH = {True: 0.35, False: 0.75}
_BIG_HEAD, _BIG_SHARE = 256, {True: 0.12, False: 0.35}  # numbers of a head beyond which another kernel attends
_NARROW = 64  # outputs of a library's convolution that are computed at least
_STEP = {True: 0.30e-6, False: 0.40e-6}  # seconds of a step over a tile's inputs at least


def seconds(launch: Launch, card: Card, cautious: bool = False) -> float:
    """What one launch takes, in a graph."""
    memory = launch.bytes / (card.cached if launch.bytes < 0.6 * card.cache else card.memory)
    started = card.moment * launch.kernels
    if not launch.macs:
        return started + memory
    if launch.unit == "int8":
        return started + max(memory, _of_bytes(launch, card) / (_CAUTIOUS if cautious else 1))
    return started + max(memory, _of_floats(launch, card))


def _of_bytes(launch: Launch, card: Card) -> float:
    """Tiles, in waves over the multiprocessors; few tiles of many steps wait for each step's inputs."""
    of = dict(launch.options)
    rows, columns, step = of["ROWS"], of["COLUMNS"], of["INPUTS"] * (1 + of["PAIR"])
    taps, inputs = of.get("KH", 1) * of.get("KW", 1), of.get("channels", of.get("inputs", 0))
    steps = of.get("each", taps * math.ceil(inputs / step))
    share = _TILES[card.data_center][min(rows, columns)]
    one = 2 * rows * columns * steps * step / (card.bytes / card.processors * share)
    waves = of["programs"] / card.processors
    busy = one * (math.ceil(waves) if waves < 4 else 1.03 * waves)
    return max(busy, steps * _STEP[card.data_center] * max(1.0, waves / 4))


def _of_floats(launch: Launch, card: Card) -> float:
    share, macs = _FLOATS[card.data_center], float(launch.macs)
    if launch.name == "attention":
        share = (_BIG_SHARE if launch.shapes[0][-1] > _BIG_HEAD else _FLASH)[card.data_center]
    if launch.name == "convolution" and len(launch.shapes[1]) == 4:
        outputs = launch.shapes[1][0]
        macs *= max(_NARROW, outputs) / outputs
        y = launch.shapes[-1]
        tiles = math.ceil(y[0] * math.prod(y[2:]) / 128) * math.ceil(outputs / 128)
        if tiles < card.processors:  # split along the inputs, at some cost
            macs *= max(1.0, 0.6 * min(4, card.processors / tiles))
    return 2 * macs / (card.floats * share)


def role(launch: Launch) -> str:
    """What a launch is for, in a table."""
    products = dict.fromkeys(("conv2d", "conv2d_part", "conv2d_joined", "linear"), "products")
    ours = {**products, "_balanced": "balance", "_image_codes": "codes", "_tokens": "tokens", "_sums": "norm",
            "_factors": "norm", "_normalized": "norm"}  # fmt: skip
    if launch.kind == "triton":
        return ours.get(launch.name, launch.name)
    named = {"convolution": "float convolutions", "attention": "attention"}
    return named.get(launch.name, "float products" if launch.macs else "other passes")


def modelled(bits: str, card: Card, cautious: bool = False) -> tuple[Counter[str], int]:
    """Milliseconds of a face by role, and how many kernels."""
    spent: Counter[str] = Counter()
    found = launches(restorer_without_numbers(bits), processors=card.processors)
    for launch in found:
        spent[role(launch)] += 1e3 * seconds(launch, card, cautious)
    return spent, sum(launch.kernels for launch in found)


def main() -> None:
    from report import table

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bits", nargs="+", default=["bf16", "w4a4"], help="the first is what others are compared to")
    parser.add_argument("--cautious", action="store_true", help="products of bytes reach three quarters of their share")
    arguments = parser.parse_args()
    print("A model's milliseconds, one 512x512 face at OSDFace's size; nothing here was measured.\n")
    rows = []
    for name, card in CARDS.items():
        first = 0.0
        for bits in arguments.bits:
            spent, kernels = modelled(bits, card, arguments.cautious)
            captured = spent.total()
            first = first or captured
            eager = max(captured, 1e3 * STARTING * kernels)
            parts = ", ".join(f"{part} {ms:.1f}" for part, ms in spent.most_common(6))
            rows.append([name, bits, f"{captured:.0f}", f"{captured / first:.2f}", f"{eager:.0f}", str(kernels), parts])
    print(table(["card", "bits", "captured", "of the first", "eager", "kernels", "most of it"], rows))


if __name__ == "__main__":
    main()
