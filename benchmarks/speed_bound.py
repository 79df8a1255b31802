"""How fast low bits could be at best on this machine: the products at the integer peak, the rest as it is.

    python benchmarks/speed_bound.py [--models osdface]

Measures large matrix products in float32, bfloat16 and 8-bit integers, and how much of a full-precision
restorer's time its linears and convolutions take. Low bits make those at best as much faster as integers are;
attention's products, softmax, norms and activations stay. What the bound leaves out: balancing, rounding and the
low-rank branch, which a low-bit restorer adds, and pixels that it need not double (kernels/doubling.py).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from report import describe_machine, table
from speed import CONFIGS, FLOATS, median
from torch import Tensor, nn

from quantface_core import OneStepRestorer
from quantface_core.kernels.allocator import kept_memory
from quantface_core.nn.swap import quantizable

SIDE = 4096  # of the matrices


def peak(product: Callable[[], object]) -> float:
    """Billions of operations a second of a product of two matrices SIDE x SIDE."""
    return 2 * SIDE**3 / median(product, 3) / 1e9


def peaks() -> dict[str, float]:
    found = {}
    for name, dtype in FLOATS.items():
        a, b = (torch.randn(SIDE, SIDE, dtype=dtype) for _ in range(2))
        found[name] = peak(lambda a=a, b=b: a @ b)
    x = torch.randint(0, 15, (SIDE, SIDE), dtype=torch.uint8)
    weight = torch.ops.onednn.qlinear_prepack(torch.randint(-7, 8, (SIDE, SIDE), dtype=torch.int8), None)
    scale, zeros = torch.ones(SIDE), torch.zeros(SIDE, dtype=torch.int64)
    arguments = (x, 1.0, 8, weight, scale, zeros, None, 1.0, 0, torch.bfloat16, "none", [], "")
    found["int8"] = peak(lambda: torch.ops.onednn.qlinear_pointwise(*arguments))
    return found


def timed(layer: nn.Module, spent: list[float]) -> None:
    """Count a layer's seconds."""
    forward = layer.forward

    def run(x: Tensor) -> Tensor:
        start = time.perf_counter()
        y = forward(x)
        spent[0] += time.perf_counter() - start
        return y

    layer.forward = run  # type: ignore[method-assign]


def shares(name: str, dtype: torch.dtype) -> dict[str, tuple[float, float]]:
    """Seconds, and those of linears and convolutions, of the UNet and of the whole."""
    torch.manual_seed(0)
    restorer = OneStepRestorer(CONFIGS[name]).eval().requires_grad_(False).to(dtype)
    restorer.to(memory_format=torch.channels_last)
    spent = [0.0]
    for layer in quantizable(restorer).values():
        timed(layer, spent)
    size = restorer.config.image_size
    face = torch.rand(1, 3, size, size) * 2 - 1
    with torch.inference_mode(), kept_memory():
        latent, prompt = restorer.encode(face), restorer.embedder(face.to(dtype))
        found = {}
        for part, work in (("UNet", lambda: restorer.predict(latent, prompt)), ("whole", lambda: restorer(face))):
            work()
            rounds = []
            for _ in range(3):
                spent[0], start = 0.0, time.perf_counter()
                work()
                rounds.append((time.perf_counter() - start, spent[0]))
            found[part] = sorted(rounds)[1]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=CONFIGS, default=["osdface"])
    arguments = parser.parse_args()
    with torch.inference_mode():
        fast = peaks()
    print(f"{describe_machine()}; random weights\n")
    print(table(["products of matrices", *fast], [["billions of operations a second", *fast.values()]], 0))
    for model in arguments.models:
        rows: list[list[str | float]] = []
        for name, dtype in FLOATS.items():
            gain = fast["int8"] / fast[name]
            for part, (seconds, layers) in shares(model, dtype).items():
                rows.append([f"{part}, {name}", seconds, layers, gain, seconds / (seconds - layers + layers / gain)])
        header = [model, "seconds", "of linears and convolutions", "integers, times faster", "bound, times"]
        print(f"\n{table(header, rows, 2)}", flush=True)


if __name__ == "__main__":
    main()
