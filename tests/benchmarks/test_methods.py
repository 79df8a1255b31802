"""The methods that are compared name settings and constants that the library has."""

from __future__ import annotations

import pytest
from methods import ABLATION, METHODS, OURS

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
