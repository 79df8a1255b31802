"""Sizes and CPU seconds per face of GFPGAN, RestoreFormer and CodeFormer in float32, bfloat16 and low bits.

    python benchmarks/restorers.py [--models GFPGAN RestoreFormer CodeFormer] [--bits w8a8 w4a4]
        [--rank 32 --branch-bits 8] [--runs 3]

Needs spandrel and, for CodeFormer, spandrel-extra-arches. Networks have the published sizes and normal random weights;
low-bit layers have rotation (64) and a low-rank branch. All precisions take turns at restoring a face with one thread,
and the median CPU time of the turns is reported: other load on the machine changes it little.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from random_models import FLOATS, add_branch_options, low_bit_layers
from report import describe_machine, table

from quantface_core import load_restorer, save_restorer
from quantface_core.kernels.dispatch import choose_backend
from quantface_core.nn.swap import prepare
from quantface_core.restorer import SpandrelConfig, SpandrelRestorer
from quantface_core.restorer.spandrel.architectures import network
from quantface_core.runtime.memory import kept_memory

SIZES: dict[str, dict[str, Any]] = {
    "GFPGAN": {
        "out_size": 512, "num_style_feat": 512, "channel_multiplier": 2, "num_mlp": 8, "input_is_latent": True,
        "different_w": True, "narrow": 1, "sft_half": True,
    },
    "RestoreFormer": {
        "n_embed": 1024, "embed_dim": 256, "ch": 64, "out_ch": 3, "ch_mult": (1, 2, 2, 4, 4, 8), "num_res_blocks": 2,
        "attn_resolutions": (16,), "in_channels": 3, "resolution": 512, "z_channels": 256, "double_z": False,
        "enable_mid": True, "head_size": 8,
    },
    "CodeFormer": {
        "dim_embd": 512, "n_head": 8, "n_layers": 9, "codebook_size": 1024, "latent_size": 256,
        "connect_list": ("32", "64", "128", "256"),
    },
}  # fmt: skip


def make(config: SpandrelConfig, bits: str, path: Path, rank: int, branch_bits: int) -> SpandrelRestorer:
    """A restorer with random weights, loaded from its file, which is written on the way."""
    torch.manual_seed(0)
    restorer = SpandrelRestorer(config, network(config)).eval().requires_grad_(False)
    if bits not in FLOATS:
        low_bit_layers(restorer, bits, rank, branch_bits)
    save_restorer(restorer, path, FLOATS.get(bits))
    made = load_restorer(path, dtype=FLOATS.get(bits))
    assert isinstance(made, SpandrelRestorer)
    prepare(made, choose_backend(torch.device("cpu")))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--bits", nargs="+", default=["w8a8", "w4a4"])
    add_branch_options(parser)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{describe_machine()}; random weights")
    rows = []
    for name in arguments.models:
        config = SpandrelConfig(name, SIZES[name])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            models, sizes = {}, {}
            for bits in [*FLOATS, *arguments.bits]:
                models[bits] = make(config, bits, path, arguments.rank, arguments.branch_bits)
                sizes[bits] = path.stat().st_size / 1e6
        face = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(0)) * 2 - 1
        seconds: dict[str, list[float]] = {bits: [] for bits in models}
        with torch.inference_mode(), kept_memory():
            for turn in range(arguments.runs + 1):
                for bits, model in models.items():
                    start = time.process_time()
                    model(face)
                    spent = time.process_time() - start
                    if turn:  # the first warms up
                        seconds[bits].append(spent)
                    print(f"{name} {bits}: {spent:.2f} s", file=sys.stderr, flush=True)
        medians = {bits: statistics.median(found) for bits, found in seconds.items()}
        for bits, median in medians.items():
            ratios = [medians[peer] / median for peer in FLOATS]
            rows.append([name, bits, median, *ratios, f"{sizes[bits]:.0f}", f"{sizes[bits] / sizes['fp32']:.1%}"])
    print(f"\n{table(['', '', 's a face', 'x fp32', 'x bf16', 'file (MB)', 'of fp32'], rows, 2)}")


if __name__ == "__main__":
    main()
