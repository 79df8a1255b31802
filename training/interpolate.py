"""Interpolate two checkpoints of one model between fidelity and perceptual quality (ESRGAN, arXiv 1809.00219, 3.4).

python training/interpolate.py fidelity.safetensors perceptual.safetensors 0.5 --output between.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from quantface_core import load_restorer, save_restorer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fidelity", type=Path, help="the checkpoint trained for small error")
    parser.add_argument("perceptual", type=Path, help="the one trained for sharpness")
    parser.add_argument("alpha", type=float, help="weight of the perceptual checkpoint, 0 to 1")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    if not 0 <= arguments.alpha <= 1:
        parser.error(f"alpha is between 0 and 1, got {arguments.alpha}")
    model, other = load_restorer(arguments.fidelity), load_restorer(arguments.perceptual)
    if model.config.to_dict() != other.config.to_dict():
        parser.error(f"{model.config.name} and {other.config.name} are not of the same architecture")
    perceptual = other.state_dict()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                value.lerp_(perceptual[name], arguments.alpha)
    save_restorer(model, arguments.output)


if __name__ == "__main__":
    main()
