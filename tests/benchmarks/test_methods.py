"""The methods that are compared name settings and constants that the library has."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from images import load
from methods import ABLATION, METHODS, OURS, Method
from torch import Tensor, nn

from quantface_core import quantize
from quantface_core.quant import search


@pytest.mark.parametrize("name", [*METHODS, *(name for name in ABLATION if name != OURS)])
def test_what_a_method_patches_exists_and_returns(name: str) -> None:
    method = {**METHODS, **ABLATION}[name].at("w3a5")
    assert (method.settings.weight_bits, method.settings.activation_bits) == (3, 5)
    with method.patched():
        pass


def test_a_patch_holds_within_its_context() -> None:
    before = search.EXPONENTS
    with ABLATION["exponent 0.5 everywhere"].patched():
        assert search.EXPONENTS == (0.5,)
    assert before == search.EXPONENTS


def test_the_page_names_what_can_be_replaced() -> None:
    page = (Path(__file__).parents[2] / "benchmarks" / "README.md").read_text("utf-8")
    steps = re.findall(r"^\| [\w ,-]+ \| `(quantface_core\.quant\.\w+)\.(\w+)`", page, re.MULTILINE)
    assert len(steps) == 4
    for module, name in steps:
        assert callable(getattr(import_module(module), name))


def test_a_rival_s_own_rounding_is_what_a_layer_holds() -> None:
    def upwards(weight: Tensor, scale: Tensor, bits: int, sample: object) -> Tensor:
        return (weight / scale).ceil().clamp(max=2 ** (bits - 1) - 1).to(torch.int8)

    settings = replace(METHODS["MaxMin rounding"].settings, rounding="compensated")
    mine = Method(settings, {"quantface_core.quant.layer_search.compensated_codes": upwards})
    model = nn.Sequential(nn.Linear(8, 4))
    weight = model[0].weight.detach().clone()
    with mine.patched():
        quantize(model, [torch.ones(2, 8)], mine.settings)
    assert (model[0].weight >= weight - 1e-6).all()


def test_faces_that_are_not_there_are_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no \.jpg images: see benchmarks/README\.md"):
        load(tmp_path)
