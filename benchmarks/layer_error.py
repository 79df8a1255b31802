"""Ours against every rival at OSDFace's size, by what layers give: the output's error on a face that none has seen.

    python benchmarks/layer_error.py [--every 12] [--bits w4a4] [--stressed]

The weights are random, as the real ones were not at hand, so whole pictures mean nothing; a layer's output does. Every
twelfth layer is quantized by each method from the same two faces, on the inputs that the full-precision model gives it,
and compared on the third. `--stressed`: every layer reads outliers (`stress.py`).
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import torch
from comparison import RIVALS
from quantization_quality import METHODS, OURS
from random_originals import NARROW, random_restorer
from report import describe_machine, table
from stress import stress
from torch import Tensor

from quantface_core.degrade import degrade
from quantface_core.nn.swap import Layer, quantizable
from quantface_core.quant.observe import ChannelStatistics, channel_magnitudes, observe_inputs
from quantface_core.quant.search import quantize_group
from quantface_core.restorer import OSDFACE
from quantface_core.stages.quantize import restorer_formats
from quantface_core.types import Bits

FACES = Path(__file__).resolve().parents[2] / "shared" / "faces" / "large"
SEEN = 2  # faces of the three
KINDS = {2: "linears", 1: "1x1 convolutions", 3: "3x3 convolutions"}


def images(side: int) -> Tensor:
    """Three degraded faces, [3, 3, side, side] in -1 to 1."""
    paths = sorted(FACES.glob("*.jpg"))[: SEEN + 1]
    faces = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths]
    faces = [cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA) for face in faces]
    pixels = np.stack([degrade(face, seed) for seed, face in enumerate(faces)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def kind_of(layer: Layer) -> str:
    return KINDS[2 if layer.weight.ndim == 2 else min(layer.weight.shape[2], 3)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=12, help="one layer in so many")
    parser.add_argument("--bits", default="w4a4")
    parser.add_argument("--stressed", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="narrow widths, to try the script")
    options = parser.parse_args()
    restorer = random_restorer(NARROW if options.tiny else OSDFACE)
    if options.stressed:
        restorer = stress(restorer)
    methods = {**{name: METHODS[method] for name, method in RIVALS.items()}, "ours": METHODS[OURS]}
    weight, activation = Bits.parse(options.bits)
    settings = {n: replace(m.settings, weight_bits=weight, activation_bits=activation) for n, m in methods.items()}
    formats = {name: restorer_formats(restorer, one) for name, one in settings.items()}
    layers = quantizable(restorer)
    inner = [name for name, fmt in formats["ours"].items() if fmt.bits == (weight, activation)]
    chosen = {name: layers[name] for name in inner[options.every // 2 :: options.every]}
    errors: dict[tuple[str, str], list[float]] = defaultdict(list)
    took: dict[str, float] = defaultdict(float)

    def observed(name: str, layer: Layer, x: Tensor) -> None:
        if len(x) < SEEN + 1:  # of the time, which is no image's
            return
        # No picture is judged, so that all outputs count alike: our branch is the SVD's here, too.
        statistics = {name: ChannelStatistics(channel_magnitudes(layer, x[:SEEN]))}
        target = layer.forward(x[SEEN:])
        for method, one in settings.items():
            with ExitStack() as patched:
                for place, value in methods[method].patches.items():
                    patched.enter_context(patch(place, value))
                began = time.process_time()
                ((built, _),) = quantize_group({name: layer}, {name: formats[method][name]}, statistics, x[:SEEN], one)
                took[method] += time.process_time() - began
            error = float((built(x[SEEN:]) - target).square().mean() / target.square().mean())
            errors[method, kind_of(layer)].append(10 * np.log10(error))
            errors[method, "all"].append(10 * np.log10(error))

    with observe_inputs(chosen, observed):
        restorer(images(restorer.image_size))
    kinds = [kind for kind in (*KINDS.values(), "all") if errors["ours", kind]]
    counts = ", ".join(f"{len(errors['ours', kind])} {kind}" for kind in kinds[:-1])
    print(f"{counts} of {len(inner)} layers, {options.bits}, random weights{', stressed' * options.stressed}")
    print(f"{describe_machine()}\n")
    rows = []
    for method in methods:
        means = [float(-np.mean(errors[method, kind])) for kind in kinds]
        rows.append([method, *means, took[method] / len(chosen)])
    print(table(["dB of the output above its error", *kinds, "seconds a layer"], rows, 2))


if __name__ == "__main__":
    main()
