"""Measure the CPU cost of group norms with a fixed order of summation, by torch's own operations.

    OMP_NUM_THREADS=1 python benchmarks/norm_order.py

torch sums a channels-last map by thread, so its sums depend on the number of threads and on the batch; sums over 32
fixed strips do not. Times are CPU time, lower quartiles, in milliseconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

_GROUPS, _STRIPS = 32, 32


def fixed_order(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    """The group norm of a channels-last map [1, C, H, W], summed strip by strip."""
    _, channels, height, width = x.shape
    strips = x.permute(0, 2, 3, 1).reshape(1, _STRIPS, height * width // _STRIPS, channels)
    totals = [s.sum(2, dtype=torch.float32).sum(1).view(_GROUPS, -1).sum(1) for s in (strips, strips * strips)]
    mean, square = (total / (height * width * channels / _GROUPS) for total in totals)
    scale = (square - mean * mean + norm.eps).rsqrt().repeat_interleave(channels // _GROUPS)
    shift = -mean.repeat_interleave(channels // _GROUPS) * scale
    a, b = (scale * norm.weight).to(x.dtype), (shift * norm.weight + norm.bias).to(x.dtype)
    return torch.addcmul(b.view(1, -1, 1, 1), x, a.view(1, -1, 1, 1))


def milliseconds(run: Callable[[], Tensor], times: int = 30) -> float:
    found = []
    for _ in range(times):
        began = time.process_time()
        run()
        found.append(time.process_time() - began)
    return sorted(found)[times // 4] * 1e3


@torch.inference_mode()
def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print("map, type: torch's, fixed order (ms)")
    for dtype in (torch.float32, torch.bfloat16):
        for channels, side in ((64, 256), (128, 128), (256, 32)):
            x = torch.randn(1, channels, side, side).to(dtype).to(memory_format=torch.channels_last)
            norm = nn.GroupNorm(_GROUPS, channels).to(dtype)
            assert torch.allclose(norm(x).float(), fixed_order(x, norm).float(), atol=0.1)
            both = milliseconds(lambda: norm(x)), milliseconds(lambda: fixed_order(x, norm))  # noqa: B023
            print(f"{channels}x{side}x{side}, {dtype}: {both[0]:.2f}, {both[1]:.2f}", flush=True)


if __name__ == "__main__":
    main()
