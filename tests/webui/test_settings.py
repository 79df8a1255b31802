"""Settings from menus, JSON and infotext."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantface_core.errors import UsageError
from quantface_core.options import COLORS, RestoreOptions
from quantface_webui.settings import AUTO, Settings, read_infotext, read_settings

shares = st.floats(0, 1).map(lambda value: round(value, 3))
every = st.builds(
    Settings,
    model=st.sampled_from(["quantface-mini", "mine.safetensors"]),
    visibility=shares,
    faces=st.sampled_from(["all", "largest", "0", "0,2", "3, 1"]),
    strength=st.just(AUTO) | shares,
    color=st.sampled_from(COLORS),
    min_size=st.integers(0, 500).map(float),
    min_confidence=shares,
    feather=shares,
    grain=shares,
    seed=st.none() | st.integers(0, 2**40),
    fidelity=shares,
)


@given(every)
def test_infotext_reads_back(settings: Settings) -> None:
    """As the host writes it: values with commas or colons in quotes, among what others say."""
    told = {name: f'"{value}"' if "," in value else value for name, value in settings.infotext().items()}
    text = ", ".join(f"{name}: {value}" for name, value in {"Steps": "20", **told, "Size": "512x512"}.items())
    assert read_infotext(f"a portrait, QuantFace\nNegative prompt: none\n{text}") == settings


def test_infotext_of_others_says_nothing() -> None:
    assert read_infotext("Steps: 20, Sampler: Euler a, Face restoration: QuantFace") is None
    assert read_infotext("") is None


def test_usual_settings_are_the_librarys() -> None:
    """Automatic strength is whatever the library's own default is."""
    assert Settings().options() == RestoreOptions()
    assert read_settings({"strength": "0.5"}).options() == RestoreOptions(strength=0.5)


def test_menus_and_json_give_the_same() -> None:
    assert read_settings({"faces": [0, 2], "seed": -1}) == read_settings({"faces": "0,2", "seed": None})
    assert read_settings({"faces": "0,2"}).options().faces == (0, 2)
    assert read_settings({"min_size": 32, "seed": 5}) == read_settings({"min_size": "32", "seed": "5"})
    assert read_settings({"faces": [1.0, "2"], "seed": 5.0}) == read_settings({"faces": "1,2", "seed": 5})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"strength": 2}, "strength must be auto, or between 0 and 1, got 2.0"),
        ({"strength": "strong"}, "strength must be auto or a number, got 'strong'"),
        ({"visibility": float("nan")}, "visibility must be between 0 and 1"),
        ({"visibility": True}, "visibility must be a number, got True"),
        ({"color": "sepia"}, "color must be one of wavelet, adain, none, got 'sepia'"),
        ({"faces": "first"}, "faces must be all, largest or positions; positions 'first': give whole"),
        ({"faces": [0, None]}, "faces must be all, largest or positions"),
        ({"min_size": -1}, "min_size must be a number of pixels"),
        ({"faces": [1.5]}, r"faces must be all, largest or positions, got \[1.5\]"),
        ({"faces": [True]}, r"faces must be all, largest or positions, got \[True\]"),
        ({"seed": 1.5e300}, "seed must be a whole number"),
        ({"seed": 1.7}, "seed must be a whole number, got 1.7"),
        ({"seed": float("inf")}, "seed must be a whole number, got inf"),
        ({"colour": "none"}, "unknown setting 'colour'"),
    ],
)
def test_what_makes_no_sense_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_settings(values)


def test_positions_are_the_librarys() -> None:
    assert Settings(faces="0,2-4").options().faces == (0, 2, 3, 4)
    with pytest.raises(UsageError, match="a range runs"):
        Settings(faces="4-2")
