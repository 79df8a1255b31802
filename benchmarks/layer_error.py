"""Compare ours with every rival at OSDFace's size by single layers' output errors, on a held-out face.

    PYTHONPATH=. python benchmarks/layer_error.py [--every 12] [--bits w4a4] [--stressed]

The weights are random, as the real ones were not available, so whole images mean nothing; a layer's output does. Every
twelfth layer is quantized by each method from the same two faces, on its inputs in the full-precision model, and
compared on the third. `--stressed`: every layer's input has outliers (`stress.py`).
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict

import cv2
import numpy as np
import torch
from comparison import RIVALS
from images import SHARED
from methods import METHODS, OURS
from report import describe_machine, table
from stress import stress
from torch import Tensor

from quantface_core.degrade import degrade
from quantface_core.nn.swap import Layer, quantizable
from quantface_core.quant.observe import ChannelStatistics, channel_magnitudes, observe_inputs
from quantface_core.quant.search import quantize_group
from quantface_core.restorer import OSDFACE, RestorerModel
from quantface_core.stages.quantize import restorer_formats
from tests.random_originals import NARROW, random_restorer

SEEN = 2  # faces of the three
KINDS = {2: "linears", 1: "1x1 convolutions", 3: "3x3 convolutions"}


def images(side: int) -> Tensor:
    """Three degraded faces, [3, 3, side, side] in -1 to 1."""
    paths = sorted((SHARED / "faces" / "large").glob("*.jpg"))[: SEEN + 1]
    faces = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths]
    faces = [cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA) for face in faces]
    pixels = np.stack([degrade(face, seed) for seed, face in enumerate(faces)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def kind_of(layer: Layer) -> str:
    return KINDS[2 if layer.weight.ndim == 2 else min(layer.weight.shape[2], 3)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=12, help="quantize one layer in so many")
    parser.add_argument("--bits", default="w4a4")
    parser.add_argument("--stressed", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="narrow widths, to try the script")
    options = parser.parse_args()
    restorer: RestorerModel = random_restorer(NARROW if options.tiny else OSDFACE)
    if options.stressed:
        restorer = stress(restorer)
    methods = {name: METHODS[method].at(options.bits) for name, method in {**RIVALS, "ours": OURS}.items()}
    formats = {name: restorer_formats(restorer, method.settings) for name, method in methods.items()}
    layers = quantizable(restorer)
    inner = [name for name, fmt in formats["ours"].items() if str(fmt.bits) == options.bits]
    chosen = {name: layers[name] for name in inner[options.every // 2 :: options.every]}
    errors: dict[tuple[str, str], list[float]] = defaultdict(list)
    took: dict[str, float] = defaultdict(float)

    def observed(name: str, layer: Layer, x: Tensor) -> None:
        if len(x) < SEEN + 1:  # from the time embedding, which has no images
            return
        # No image is judged, so all outputs count alike, and our branch is by SVD here, too.
        statistics = {name: ChannelStatistics(channel_magnitudes(layer, x[:SEEN]))}
        target = layer.forward(x[SEEN:])
        for title, method in methods.items():
            with method.patched():
                began = time.process_time()
                form = {name: formats[title][name]}
                ((built, _),) = quantize_group({name: layer}, form, statistics, x[:SEEN], method.settings)
                took[title] += time.process_time() - began
            error = float((built(x[SEEN:]) - target).square().mean() / target.square().mean())
            errors[title, kind_of(layer)].append(10 * np.log10(error))
            errors[title, "all"].append(10 * np.log10(error))

    with observe_inputs(chosen, observed):
        restorer(images(restorer.image_size))
    kinds = [kind for kind in (*KINDS.values(), "all") if errors["ours", kind]]
    counts = ", ".join(f"{len(errors['ours', kind])} {kind}" for kind in kinds[:-1])
    print(f"{counts} of {len(inner)} layers, {options.bits}, random weights{', stressed' * options.stressed}")
    print(f"{describe_machine()}\n")
    rows: list[list[str | float]] = []
    for title in methods:
        means = [float(-np.mean(errors[title, kind])) for kind in kinds]
        rows.append([title, *means, took[title] / len(chosen)])
    print(table(["dB of the output above its error", *kinds, "seconds a layer"], rows, 2))


if __name__ == "__main__":
    main()
