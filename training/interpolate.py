"""Between two checkpoints of one model: as true as the first, as sharp as the second (ESRGAN, arXiv 1809.00219, 3.4).

    python training/interpolate.py true.safetensors sharp.safetensors 0.5 --output between.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from quantface_core import load_restorer, save_restorer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("share", type=float, help="of the second's weights, 0 to 1")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    model, other = load_restorer(arguments.first), load_restorer(arguments.second).state_dict()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                value.lerp_(other[name], arguments.share)
    save_restorer(model, arguments.output)


if __name__ == "__main__":
    main()
