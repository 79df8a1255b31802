"""Seconds of the UNet alone at every precision, in turn, in one process: ratios that hold on a shared machine.

    python benchmarks/unet_speed.py [--model osdface] [--bits w6a6 w4a4] [--rounds 9] [--no-bfloat16]

Restorers have random weights, all in memory at once (osdface: 8 GB). A round times each of them, one
after the other, so that a slow minute is slow for all; ratios are medians of the rounds' ratios, beside those of the
least seconds.

A CPU can be held to an older one's instructions: `ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2` before the command,
or `AVX2_VNNI`, with `--no-bfloat16`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from functools import partial

import torch
from random_models import CONFIGS, FLOATS, random_model
from report import describe_machine, table
from timing import seconds

from quantface_core import OneStepRestorer, load_restorer
from quantface_core.kernels.dispatch import choose_backend
from quantface_core.nn.swap import prepare
from quantface_core.restorer.one_step import Latent
from quantface_core.runtime.memory import kept_memory

CPU = torch.device("cpu")


def loaded(name: str, bits: str, dtype: torch.dtype | None) -> OneStepRestorer:
    """A restorer with random weights, as loaded from a file; computes in a dtype (None: the machine's choice)."""
    with random_model(name, bits) as path:
        restorer = load_restorer(path, CPU, dtype)
    assert isinstance(restorer, OneStepRestorer)
    prepare(restorer, choose_backend(CPU))
    return restorer


@torch.inference_mode()
def measured(restorers: dict[str, OneStepRestorer], rounds: int) -> dict[str, list[float]]:
    """Seconds of every restorer's UNet in every round, after one to warm up."""
    *_, reader = restorers.values()
    size = reader.config.image_size
    face = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latent, prompt = reader.encode(face), reader.embedder(face.to(reader.dtype))
    found: dict[str, list[float]] = {bits: [] for bits in restorers}
    for number in range(rounds + 1):
        for bits, restorer in restorers.items():
            code, own = Latent(latent.code.to(restorer.dtype)), prompt.to(restorer.dtype)
            found[bits].append(seconds(partial(restorer.predict, code, own)))
        if number:
            shown = ", ".join(f"{bits} {taken[-1]:.2f}" for bits, taken in found.items())
            print(f"round {number} of {rounds}: {shown} s", file=sys.stderr)
    return {bits: taken[1:] for bits, taken in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=CONFIGS, default="osdface")
    parser.add_argument("--bits", nargs="+", default=["w6a6", "w4a4"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-bfloat16", action="store_true", help="as on a CPU without it: low-bit models in float32")
    arguments = parser.parse_args()
    peers = {"fp32": torch.float32} if arguments.no_bfloat16 else FLOATS
    dtypes = peers | dict.fromkeys(arguments.bits, torch.float32 if arguments.no_bfloat16 else None)
    with kept_memory():
        restorers = {bits: loaded(arguments.model, bits, dtype) for bits, dtype in dtypes.items()}
        found = measured(restorers, arguments.rounds)
    rows: list[list[str | float]] = []
    for bits, taken in found.items():
        row: list[str | float] = [bits, statistics.median(taken), min(taken)]
        for peer in (found[name] for name in peers):
            row += [statistics.median(p / t for p, t in zip(peer, taken, strict=True)), min(peer) / min(taken)]
        rows.append(row)
    header = [arguments.model, "UNet (s)", "least", *(title for name in peers for title in (f"x {name}", "of least"))]
    print(f"{describe_machine()}; random weights, {arguments.rounds} rounds\n\n{table(header, rows, 2)}")


if __name__ == "__main__":
    main()
