"""The options of restoring: their checks, and positions of faces as users write them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantface_core.errors import UsageError
from quantface_core.options import (
    COLORS,
    FACE_CHOICES,
    FACE_ORDERS,
    UPSCALES,
    RestoreOptions,
    check_options,
    parse_faces,
    parse_positions,
)


def test_the_defaults_and_every_choice_are_valid() -> None:
    check_options(RestoreOptions())
    for name, values in {"faces": FACE_CHOICES, "order": FACE_ORDERS, "color": COLORS, "upscale": UPSCALES}.items():
        for value in values:
            check_options(RestoreOptions(**{name: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"strength": 1.5},
        {"strength": float("nan")},
        {"strength": "strong"},
        {"strength": True},
        {"min_size": float("nan")},
        {"min_size": float("inf")},
        {"min_confidence": 1.1},
        {"feather": float("nan")},
        {"grain": 1.1},
        {"fidelity": -0.1},
        {"upscale": 3},
        {"batch_size": -1},
        {"seed": -1},
        {"seed": 2**62},
        {"color": "sepia"},
        {"faces": "biggest"},
        {"order": "loudest"},
    ],
)
def test_what_is_out_of_range_is_named(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"^{next(iter(options))} must be .*, got "):
        check_options(RestoreOptions(**options))  # type: ignore[arg-type]


def test_faces_are_a_choice_or_positions() -> None:
    assert [parse_faces(text) for text in (*FACE_CHOICES, "0,2-3")] == [*FACE_CHOICES, (0, 2, 3)]
    with pytest.raises(UsageError, match="faces must be all, largest or positions; positions 'first': give whole"):
        parse_faces("first")


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        ("0", (0,)),
        ("0,2", (0, 2)),
        (" 2 , 0 ,", (2, 0)),
        ("0-3", (0, 1, 2, 3)),
        ("5, 1 - 2,,", (5, 1, 2)),
        ("3-3", (3,)),
        ("0\uff0c2\u30013", (0, 2, 3)),  # as a Chinese keyboard types commas
    ],
)
def test_positions_are_numbers_and_ranges(text: str, positions: tuple[int, ...]) -> None:
    assert parse_positions(text) == positions


@pytest.mark.parametrize("text", ["", ",", "x", "-1", "1-", "1-2-3", "3-1", "0-99999999999", "9" * 5000, "1.5", "0;2"])
def test_what_is_no_position_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="positions '"):
        parse_positions(text)


def test_options_load_without_torch_and_opencv() -> None:
    """Front ends list them before either is there."""
    code = "import sys, quantface_core.options; print([m for m in ('torch', 'cv2') if m in sys.modules])"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "options",
    [
        {"faces": 0},
        {"faces": (0.0,)},
        {"faces": ("0",)},
        {"faces": None},
        {"strength": None},
        {"min_size": "9"},
        {"min_confidence": None},
        {"feather": "0.3"},
        {"grain": None},
        {"fidelity": "1"},
        {"upscale": 2.0},
        {"upscale": "2"},
        {"batch_size": None},
        {"batch_size": 1.5},
        {"seed": 1.5},
        {"seed": "1"},
        {"seed": True},
    ],
)
def test_what_is_of_another_kind_is_named(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"^{next(iter(options))} must be .*, got "):
        check_options(RestoreOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{"strength": 0.5}, 0.5, None])
def test_what_are_no_options_are_refused(given: Any) -> None:
    with pytest.raises(UsageError, match="options are RestoreOptions, such as"):
        check_options(given)


def test_numpys_numbers_are_numbers() -> None:
    share, whole = np.float32(0.5), np.int64(1)
    check_options(
        RestoreOptions(np.arange(2), min_size=share, strength=share, upscale=whole, batch_size=whole, seed=whole)  # type: ignore[arg-type]
    )
