"""The model that is trained: a checkpoint to continue from, and its parts by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from quantface_core import OneStepRestorer, load_restorer


def part(model: OneStepRestorer, name: str) -> torch.nn.Module:
    """A part of the pipeline by its name in a stage."""
    if name == "decoder":
        return torch.nn.ModuleList([model.vae.post_quant_conv, model.vae.decoder])
    return model.embedder.projection if name == "projection" else model.get_submodule(name)


def begin_from(path: Path) -> OneStepRestorer:
    """A trained model to continue from; one without feature paths gets new ones, which change nothing yet.

    One that decodes whole images starts by changing nothing: its last convolution is set to zero.
    """
    finished = load_restorer(path)
    if not isinstance(finished, OneStepRestorer):
        raise SystemExit(f"{path}: not a one-step restorer")
    model = OneStepRestorer(replace(finished.config, feature_paths=True, residual=True))
    missing, _ = model.load_state_dict(finished.state_dict(), strict=False)
    if any(not name.startswith("paths.") for name in missing):
        raise SystemExit(f"{path}: no {missing[0]}")
    if not finished.config.residual:
        torch.nn.init.zeros_(model.vae.decoder.conv_out.weight)
        torch.nn.init.zeros_(model.vae.decoder.conv_out.bias)
    return model
