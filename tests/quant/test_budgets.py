"""What a budget may be, and limits as they are typed."""

from __future__ import annotations

import pytest

from quantface_core.errors import UsageError
from quantface_core.quant.budgets import check_budget, parse_limit
from quantface_core.types import BITS, Budget, widths_in_words


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"weight_bits": 4.5}, "a Budget, such as"),
        (Budget(weight_bits=float("nan")), "weight_bits: .* above 0, or None, got nan"),
        (Budget(megabytes=float("inf")), "megabytes: .* got inf"),
        (Budget(operations=-1), "operations: .* got -1"),
        (Budget(megabytes=True), "megabytes: .* got True"),
        (Budget(activation_bits="4"), "activation_bits: .* got '4'"),
        (Budget(weight_bits=5, perceptual_weight=None), "perceptual_weight .* got None"),
        (Budget(weight_bits=5, limits=[("unet", (3, 4))]), "by module"),
        (Budget(weight_bits=5, limits={"unet": 4}), f"limit of 'unet' is .* {widths_in_words()}, got 4"),
        (Budget(weight_bits=5, limits={"unet": (4.0, 6.0)}), r"got \(4.0, 6.0\)"),
        (Budget(weight_bits=5, limits={"unet": (1, 12)}), r"got \(1, 12\)"),
        (Budget(weight_bits=5, limits={"unet": (6, 4)}), r"got \(6, 4\)"),
        (Budget(weight_bits=5, limits={3: (4, 4)}), "a limit's key is a module's name, got 3"),
    ],
)
def test_what_is_no_budget_is_refused(budget: Budget, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_budget(budget)


def test_limits_read_as_they_are_typed() -> None:
    assert parse_limit(" vae.decoder=6-8") == ("vae.decoder", (6, 8))
    assert parse_limit("unet=4") == ("unet", (4, 4))
    assert parse_limit("vae = 6 - 8") == ("vae", (6, 8))
    for wrong in ("unet", f"unet={BITS.start - 1}-4", "unet=8-3", "=4", "unet=a"):
        with pytest.raises(UsageError, match="MODULE=LOW-HIGH"):
            parse_limit(wrong)
