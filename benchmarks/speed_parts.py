"""Break down a low-bit restorer's time on this machine, beside its products' time at the integer peak.

    python benchmarks/speed_parts.py [--models osdface] [--bits w4a4]

Random weights, one face, onednn backend, as in `speed.py`. "Products" are the integer products with their scales and
bias; "at peak" is the time of their operations, counted as for a plain convolution, in one large matrix product:
transforms and doubled pixels need fewer. "Branches" include the additions to the products' results; "other" is norms,
activations, residual additions and diffusers' own work.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any
from unittest.mock import patch

import torch
from random_models import CONFIGS, FLOATS, random_model
from report import describe_machine, table
from timing import median, seconds

from quantface_core import OneStepRestorer, load_restorer
from quantface_core.kernels import onednn
from quantface_core.nn.qconv2d import QuantConv2d
from quantface_core.nn.qlayer import QuantLayer
from quantface_core.nn.qlinear import project
from quantface_core.nn.swap import prepare
from quantface_core.restorer.attention import attention
from quantface_core.runtime.memory import kept_memory

SIDE = 4096  # of the matrices


def peaks() -> dict[str, float]:
    """Billions of operations per second in a product of two SIDE x SIDE matrices, by precision."""
    x = torch.randint(0, 15, (SIDE, SIDE), dtype=torch.uint8)
    weight = torch.ops.onednn.qlinear_prepack(torch.randint(-7, 8, (SIDE, SIDE), dtype=torch.int8), None)
    scale, zeros = torch.ones(SIDE), torch.zeros(SIDE, dtype=torch.int64)
    arguments: tuple[Any, ...] = (x, 1.0, 8, weight, scale, zeros, None, 1.0, 0, torch.bfloat16, "none", [], "")
    work: dict[str, Callable[[], object]] = {"int8": lambda: torch.ops.onednn.qlinear_pointwise(*arguments)}
    for name, dtype in FLOATS.items():
        a, b = (torch.randn(SIDE, SIDE, dtype=dtype) for _ in range(2))
        work[name] = partial(torch.matmul, a, b)
    return {name: 2 * SIDE**3 / median(product, 3) / 1e9 for name, product in work.items()}


@contextmanager
def counted(spent: dict[str, float]) -> Iterator[None]:
    """Context manager: within it, the parts' seconds are added to `spent`, and layers' "operations"."""
    places = {
        "layers": [*everywhere(project), (QuantConv2d, "forward"), (QuantConv2d, "forward_upsampled")],
        "kernels": [
            (onednn.Linear, "codes"),
            (onednn.Linear, "product"),
            (onednn.Conv2d, "__call__"),
            (onednn.Conv2d, "forward_upsampled"),
        ],
        "codes": [(onednn.Linear, "codes"), (onednn.Conv2d, "_padded")],
        "attention": everywhere(attention),
    }
    running: set[str] = set()
    with ExitStack() as patches:
        for part, owners in places.items():
            for owner, name in owners:
                timed = _timed(getattr(owner, name), part, spent, running)
                patches.enter_context(patch.object(owner, name, timed))
        yield


def everywhere(function: Callable[..., Any]) -> list[tuple[Any, str]]:
    """The library's modules that hold a function, and by which name: each of them calls its own."""
    modules = [module for path, module in sys.modules.items() if path.startswith("quantface_core.")]
    return [(module, name) for module in modules for name, value in vars(module).items() if value is function]


def _timed(call: Callable[..., Any], part: str, spent: dict[str, float], running: set[str]) -> Callable[..., Any]:
    """`call`, whose seconds are added to a part's, unless another call of that part runs it."""

    @wraps(call)
    def run(*given: Any, **named: Any) -> Any:
        if part in running:
            return call(*given, **named)
        running.add(part)
        start = time.perf_counter()
        try:
            result = call(*given, **named)
        finally:
            running.remove(part)
        spent[part] += time.perf_counter() - start
        if part == "layers":
            spent["operations"] += operations(given[0], result)
        return result

    return run


def operations(layers: Any, results: Any) -> float:
    """Of a convolution and its result, or linears and theirs: two per multiply-accumulate; none of float layers."""
    pairs = zip(layers, results, strict=True) if isinstance(results, list) else [(layers, results)]
    return sum(2 * y.numel() * math.prod(layer.shape[1:]) for layer, y in pairs if isinstance(layer, QuantLayer))


def shares(work: Callable[[], object], peak: float) -> list[float]:
    """Seconds of a part of a restorer and of its components, from the median of five rounds."""
    rounds = []
    for _ in range(6):
        spent: dict[str, float] = defaultdict(float)
        with counted(spent):
            rounds.append((seconds(work), spent))
    total, of = sorted(rounds[1:], key=lambda r: r[0])[2]
    products, branches = of["kernels"] - of["codes"], of["layers"] - of["kernels"]
    other = total - of["layers"] - of["attention"]
    return [total, products, of["operations"] / peak / 1e9, of["codes"], branches, of["attention"], other]


def random_restorer(model: str, bits: str) -> OneStepRestorer:
    with random_model(model, bits) as path:
        restorer = load_restorer(path, dtype=torch.bfloat16)
    assert isinstance(restorer, OneStepRestorer)
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
    for model in arguments.models:
        restorer = random_restorer(model, arguments.bits)
        face = torch.rand(1, 3, *[restorer.config.image_size] * 2) * 2 - 1
        latent, prompt = restorer.encode(face), restorer.embedder(face.to(restorer.dtype))
        with kept_memory():
            unet = shares(partial(restorer.predict, latent, prompt), fast["int8"])
            whole = shares(partial(restorer, face), fast["int8"])
        header = [f"{model} {arguments.bits}", "seconds", "products", "at peak", "balance and round", "branches"]
        print(f"\n{table([*header, 'attention', 'other'], [['UNet', *unet], ['whole', *whole]], 2)}", flush=True)


if __name__ == "__main__":
    main()
