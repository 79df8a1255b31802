"""Estimate the time of a face on GPUs that are not available, with a model of its launches: not a measurement.

    python benchmarks/gpu_model.py [--bits bf16 w4a4] [--cautious]

Every launch of `gpu_launches.py` takes a moment to start and then the longer of its bytes over memory bandwidth (the
cache's, where they fit) and its multiplications over the tensor cores' peak, of which kernels reach a share: for an
H100's bfloat16 the one that makes the model agree with a measured face (20 ms), for the others from published
measurements of similar kernels. Errors of 15 % on an H100 and of 25 % on a GeForce are likely; `--cautious` uses the
lowest share published for int8 products. "Eager" is the longer of this and of the time a CPU takes to launch the
kernels.
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

from gpu_launches import recorded
from gpu_recorder import Launch

STARTING = 10e-6  # seconds that a desktop CPU takes to launch a kernel; a rented H100's took 40e-6 (measured)


@dataclass(frozen=True)
class Card:
    """A GPU. GeForce multiplies bfloat16, accumulating in float32, at a quarter of its int8 speed."""

    processors: int
    memory: float  # bytes per second, achieved
    cached: float  # the same, for what fits the cache
    cache: float  # bytes
    floats: float  # bfloat16 operations per second, dense
    bytes: float  # int8 operations per second, dense
    moment: float  # seconds, the least that a kernel takes in a graph
    data_center: bool = False


CARDS = {
    "H100": Card(132, 2.90e12, 5.5e12, 50e6, 990e12, 1979e12, 1.4e-6, True),
    "RTX 3060": Card(28, 3.25e11, 0.9e12, 3e6, 25.5e12, 102e12, 1.6e-6),
    "RTX 4060 Ti": Card(34, 2.62e11, 1.3e12, 32e6, 44.1e12, 176.5e12, 1.4e-6),
    "RTX 4090": Card(128, 9.20e11, 3.8e12, 72e6, 165.2e12, 660.6e12, 1.4e-6),
}
# Shares of the peak that kernels reach, by whether the card is for data centres; int8 products by their tile's
# shorter side.
_TILES = {True: {128: 0.45, 64: 0.28, 32: 0.15, 16: 0.08}, False: {128: 0.60, 64: 0.45, 32: 0.30, 16: 0.15}}
_CAUTIOUS = 0.75  # of these: 0.45 instead of 0.60
_FLOATS = {True: 0.50, False: 0.80}
_FLASH = {True: 0.35, False: 0.75}
_BIG_HEAD, _BIG_SHARE = 256, {True: 0.12, False: 0.35}  # head size beyond which attention uses another kernel
_NARROW = 64  # fewest outputs that a library's convolution computes
_STEP = {True: 0.30e-6, False: 0.40e-6}  # seconds, the least for a step over a tile's inputs


def seconds(launch: Launch, card: Card, cautious: bool = False) -> float:
    """Seconds of one launch, in a graph."""
    memory = launch.bytes / (card.cached if launch.bytes < 0.6 * card.cache else card.memory)
    started = card.moment * launch.kernels
    if not launch.macs:
        return started + memory
    if launch.unit == "int8":
        return started + max(memory, _of_bytes(launch, card) / (_CAUTIOUS if cautious else 1))
    return started + max(memory, _of_floats(launch, card))


def _of_bytes(launch: Launch, card: Card) -> float:
    """Seconds of an int8 product: tiles in waves over the multiprocessors; few tiles of many steps wait for inputs."""
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
    """Seconds of a floating-point product."""
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
    """The purpose of a launch, as a table names it."""
    products = dict.fromkeys(("conv2d", "conv2d_part", "conv2d_joined", "linear"), "products")
    ours = {**products, "_balanced": "balance", "_image_codes": "codes", "_tokens": "tokens", "_sums": "norm",
            "_factors": "norm", "_normalized": "norm"}  # fmt: skip
    if launch.kind == "triton":
        return ours.get(launch.name, launch.name)
    named = {"convolution": "float convolutions", "attention": "attention"}
    return named.get(launch.name, "float products" if launch.macs else "other passes")


def modelled(bits: str, card: Card, cautious: bool = False) -> tuple[Counter[str], int]:
    """Milliseconds per face by role, and the number of kernels."""
    spent: Counter[str] = Counter()
    found = recorded(bits, card.processors)
    for launch in found:
        spent[role(launch)] += 1e3 * seconds(launch, card, cautious)  # type: ignore[assignment]  # floats add up too
    return spent, sum(launch.kernels for launch in found)


def main() -> None:
    from report import table

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bits", nargs="+", default=["bf16", "w4a4"], help="the others are compared to the first")
    parser.add_argument("--cautious", action="store_true", help="int8 products reach three quarters of their share")
    arguments = parser.parse_args()
    print("Modelled milliseconds, one 512x512 face at OSDFace's size; nothing here was measured.\n")
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
