"""Published files of GFPGAN, RestoreFormer and CodeFormer with random weights, made from spandrel's own classes.

`slim` makes those classes narrow, whatever sizes they are called with: the same keys, a hundredth of the arithmetic.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

ARCHITECTURES = ("GFPGAN", "RestoreFormer", "CodeFormer")
FILES = {"GFPGAN": "GFPGANv1.4.pth", "RestoreFormer": "RestoreFormer.pth", "CodeFormer": "codeformer.pth"}
_WRAPPERS = {"GFPGAN": "params_ema", "CodeFormer": "params_ema", "RestoreFormer": ""}  # as their authors saved them


def needs_spandrel() -> None:
    """Skip, with the reason, where spandrel or its extra architectures cannot be imported.

    Without torchvision, or with one that is not for this torch, three names of its stand in while spandrel is
    imported: none of our architectures calls them.
    """
    try:
        if importlib.util.find_spec("spandrel_extra_arches") is None:
            raise ModuleNotFoundError("not installed")
        try:
            importlib.import_module("spandrel_extra_arches")
        except Exception:
            with pytest.MonkeyPatch.context() as patch:
                for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
                    module: Any = ModuleType(name)
                    module.normalize = module.rotate = module.InterpolationMode = None
                    patch.setitem(sys.modules, name, module)
                importlib.import_module("spandrel_extra_arches")
        if not hasattr(module_of("GFPGAN"), "GFPGAN"):
            raise ImportError("before spandrel 0.4 its classes are elsewhere")
    except Exception as error:
        pytest.skip(f"needs spandrel and spandrel-extra-arches ({type(error).__name__}: {error})")


def module_of(architecture: str) -> Any:
    """Where spandrel keeps an architecture's class, under its name."""
    home = "spandrel_extra_arches" if architecture == "CodeFormer" else "spandrel"
    return importlib.import_module(f"{home}.architectures.{architecture}")


def network(architecture: str, **sizes: Any) -> nn.Module:
    """Spandrel's network with seeded random weights, none of them zero: every layer counts."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net: nn.Module = getattr(module_of(architecture), architecture)(**sizes)
        for parameter in net.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)
        if hasattr(net, "quantize"):  # codes so far apart that rounding does not choose another
            nn.init.normal_(net.quantize.embedding.weight)  # type: ignore[union-attr, arg-type]
    return net.eval().requires_grad_(False)


def write(net: nn.Module, architecture: str, folder: Path) -> Path:
    """The network's file, in the folder, as its authors publish it."""
    state: Any = net.state_dict()
    wrapper = _WRAPPERS[architecture]
    path = folder / FILES[architecture]
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({wrapper: state} if wrapper else state, path)
    return path


@torch.no_grad()
def own_output(net: Any, architecture: str, image: torch.Tensor, fidelity: float = 0.5) -> torch.Tensor:
    """What spandrel's network itself makes of pictures in [-1, 1], with the noise that GFPGAN's file holds."""
    if architecture == "GFPGAN":
        return net(image, randomize_noise=False)[0].clamp(-1, 1)
    if architecture == "CodeFormer":
        return net(image, weight=fidelity)[0].clamp(-1, 1)
    return net(image)[0].clamp(-1, 1)


@contextmanager
def slim() -> Iterator[None]:
    """While it lasts, spandrel's classes are narrow."""
    needs_spandrel()
    with pytest.MonkeyPatch.context() as patch:
        _slim_class(patch, "GFPGAN", out_size=128, num_style_feat=64, narrow=0.125, channel_multiplier=1)
        shape = {"ch": 32, "ch_mult": (1, 1, 1), "num_res_blocks": 1, "n_embed": 64, "embed_dim": 32}
        _slim_class(patch, "RestoreFormer", **shape, resolution=64, z_channels=32, head_size=4)
        _slim_class(patch, "CodeFormer", dim_embd=64, n_layers=2, codebook_size=64, connect_list=["32", "128"])
        code = importlib.import_module(module_of("CodeFormer").CodeFormer.func.__module__)
        whole, fuse = code.VQAutoEncoder.__init__, code.Fuse_sft_block

        def narrow(self: Any, size: int, _: int, levels: list[int], *rest: Any) -> None:
            whole(self, size, 8, [1] * len(levels), *rest)

        patch.setattr(code.VQAutoEncoder, "__init__", narrow)
        patch.setattr(code, "Fuse_sft_block", lambda *_: fuse(8, 8))
        patch.setattr(code, "normalize", lambda channels: nn.GroupNorm(8, channels, eps=1e-6))
        yield


def _slim_class(patch: pytest.MonkeyPatch, architecture: str, **sizes: Any) -> None:
    module = module_of(architecture)
    whole = getattr(module, architecture)

    def narrow(**given: Any) -> nn.Module:
        made: nn.Module = whole(**{**given, **sizes})
        return made

    made: Any = partial(narrow)
    made.func.__module__ = whole.__module__
    patch.setattr(module, architecture, made)
