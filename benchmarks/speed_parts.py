"""Where a low-bit restorer's time goes on this machine, beside what its products would take at the integer peak.

    python benchmarks/speed_parts.py [--models osdface] [--bits w4a4]

Random weights, one face, onednn backend, as in `speed.py`. "Products" holds the integer products with their scales
and bias, and "at peak" what their operations, as a plain convolution counts them, would take as one large matrix
product: transforms and doubled pixels need fewer. "Other" is norms, activations, additions and diffusers' own work.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from report import describe_machine, table
from speed import CONFIGS, FLOATS, make, median

from quantface_core import OneStepRestorer, load_restorer
from quantface_core.kernels import onednn
from quantface_core.nn import qlinear
from quantface_core.nn.qconv2d import QuantConv2d
from quantface_core.nn.swap import prepare
from quantface_core.restorer import attention
from quantface_core.runtime.memory import kept_memory

SIDE = 4096  # of the matrices
TIMED = {
    "layers": [
        (qlinear, "project"),
        (attention, "project"),
        (QuantConv2d, "forward"),
        (QuantConv2d, "forward_upsampled"),
    ],
    "kernels": [
        (onednn.Linear, "codes"),
        (onednn.Linear, "product"),
        (onednn.Conv2d, "__call__"),
        (onednn.Conv2d, "forward_upsampled"),
    ],
    "codes": [(onednn.Linear, "codes"), (onednn.Conv2d, "_padded")],
    "attention": [(attention, "attention")],
}


def peaks() -> dict[str, float]:
    """Billions of operations a second of a product of two matrices SIDE x SIDE."""
    x = torch.randint(0, 15, (SIDE, SIDE), dtype=torch.uint8)
    weight = torch.ops.onednn.qlinear_prepack(torch.randint(-7, 8, (SIDE, SIDE), dtype=torch.int8), None)
    scale, zeros = torch.ones(SIDE), torch.zeros(SIDE, dtype=torch.int64)
    arguments = (x, 1.0, 8, weight, scale, zeros, None, 1.0, 0, torch.bfloat16, "none", [], "")
    work: dict[str, Callable[[], object]] = {"int8": lambda: torch.ops.onednn.qlinear_pointwise(*arguments)}
    for name, dtype in FLOATS.items():
        a, b = (torch.randn(SIDE, SIDE, dtype=dtype) for _ in range(2))
        work[name] = lambda a=a, b=b: a @ b
    return {name: 2 * SIDE**3 / median(product, 3) / 1e9 for name, product in work.items()}


def timed(owner: Any, name: str, spent: Counter[str], what: str) -> None:
    """Count the seconds of a function or a method, and layers' operations, two a multiply-accumulate."""
    plain = getattr(owner, name)

    def run(*given: Any, **named: Any) -> Any:
        start = time.perf_counter()
        result = plain(*given, **named)
        spent[what] += time.perf_counter() - start
        if what == "layers":
            layers, results = (given[0], result) if isinstance(result, list) else ([given[0]], [result])
            for layer, y in zip(layers, results, strict=True):
                spent["operations"] += 2 * y.numel() * math.prod(layer.shape[1:])
        return result

    setattr(owner, name, run)


def shares(work: Callable[[], object], spent: Counter[str], peak: float) -> list[float]:
    """Seconds of a part of a restorer, and of what they are made: the round of five in the middle."""
    rounds = []
    for _ in range(6):
        spent.clear()
        start = time.perf_counter()
        work()
        rounds.append((time.perf_counter() - start, dict(spent)))
    seconds, of = sorted(rounds[1:], key=lambda r: r[0])[2]
    products, branches = of["kernels"] - of["codes"], of["layers"] - of["kernels"]
    other = seconds - of["layers"] - of["attention"]
    return [seconds, products, of["operations"] / peak / 1e9, of["codes"], branches, of["attention"], other]


def random_restorer(model: str, bits: str) -> OneStepRestorer:
    with tempfile.TemporaryDirectory() as folder:
        make(CONFIGS[model], bits, Path(folder) / "model.safetensors")
        restorer = load_restorer(Path(folder) / "model.safetensors", dtype=torch.bfloat16)
    prepare(restorer, onednn)
    return restorer


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=CONFIGS, default=["osdface"])
    parser.add_argument("--bits", default="w4a4")
    arguments = parser.parse_args()
    fast = peaks()
    print(f"{describe_machine()}; random weights\n")
    print(table(["products of matrices", *fast], [["billions of operations a second", *fast.values()]], 0))
    spent: Counter[str] = Counter()
    for what, places in TIMED.items():
        for owner, name in places:
            timed(owner, name, spent, what)
    for model in arguments.models:
        restorer = random_restorer(model, arguments.bits)
        face = torch.rand(1, 3, *[restorer.config.image_size] * 2) * 2 - 1
        latent, prompt = restorer.encode(face), restorer.embedder(face.to(restorer.dtype))
        with kept_memory():
            unet = shares(partial(restorer.predict, latent, prompt), spent, fast["int8"])
            whole = shares(partial(restorer, face), spent, fast["int8"])
        header = [f"{model} {arguments.bits}", "seconds", "products", "at peak", "balance and round", "branches"]
        print(f"\n{table([*header, 'attention', 'other'], [['UNet', *unet], ['whole', *whole]], 2)}", flush=True)


if __name__ == "__main__":
    main()
