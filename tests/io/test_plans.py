"""Plans and sensitivities as JSON: what is written is read, what is wrong is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantface_core.errors import ConfigError, ModelError, QuantFaceError
from quantface_core.io.plans import (
    load_plan,
    load_sensitivity,
    plan_from_json,
    plan_to_json,
    save_plan,
    save_sensitivity,
    sensitivity_from_json,
    sensitivity_to_json,
)
from quantface_core.types import BITS, BitPlan, LayerSensitivity, Sensitivity

PLAN = BitPlan("quantface-mini", {"unet.conv_in": (8, 8), "unet.mid_block.attentions.0.proj_in": (3, 5)})
SENSITIVITY = Sensitivity(
    "quantface-mini",
    "ms_ssim",
    1234,
    {
        "unet.conv_in": LayerSensitivity(10, 20, 30, 8, dict.fromkeys(BITS, 0.5), dict.fromkeys(BITS, 0.25), 1e-5, 0.1),
        "unet.conv1": LayerSensitivity(10, 20, 30, None, dict.fromkeys(BITS, 0.5), dict.fromkeys(BITS, 0.1), 1e-7, 0.0),
    },
)


def test_files_round_trip(tmp_path: Path) -> None:
    save_plan(PLAN, tmp_path / "plan.json")
    save_sensitivity(SENSITIVITY, tmp_path / "sensitivity.json")
    assert load_plan(tmp_path / "plan.json") == PLAN
    assert load_sensitivity(tmp_path / "sensitivity.json") == SENSITIVITY


def test_sensitivities_say_what_they_were_measured_with() -> None:
    known = replace(SENSITIVITY, settings={"rank": 16, "parts": ["unet"], "calibration_sha256": "0a"})
    assert sensitivity_from_json(sensitivity_to_json(known)) == known
    with pytest.raises(ConfigError, match="settings"):
        sensitivity_from_json(json.dumps({**json.loads(sensitivity_to_json(known)), "settings": [16]}))


def test_a_plan_reads_and_differs_line_by_line() -> None:
    assert '"unet.mid_block.attentions.0.proj_in": "w3a5"' in plan_to_json(PLAN).splitlines()[-3]
    assert len(sensitivity_to_json(SENSITIVITY).splitlines()) < 12


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layers": {"unet.conv_in": "w9a4"}}, "layers.unet.conv_in"),
        ({"layers": {"unet.conv_in": 4}}, "layers.unet.conv_in"),
        ({"layers": {}}, "not empty"),
        ({"version": 99}, "version 99"),
        ({"format": "other"}, "format"),
        ({"extra": 1}, "extra"),
        ({"model": 3}, "model"),
    ],
)
def test_the_wrong_field_of_a_plan_is_named(change: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        plan_from_json(json.dumps({**json.loads(plan_to_json(PLAN)), **change}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("error", float("nan")),
        ("error", -1),
        ("fixed", 99),
        ("weight", {"4": 1}),
        ("parameters", "many"),
        ("parameters", 10**400),
    ],
)
def test_the_wrong_field_of_a_layer_is_named(field: str, value: object) -> None:
    table = json.loads(sensitivity_to_json(SENSITIVITY))
    table["layers"]["unet.conv1"][field] = value
    with pytest.raises(ConfigError, match=rf"layers\.unet\.conv1(\.{field})?"):
        sensitivity_from_json(json.dumps(table))


def test_a_number_of_too_many_digits_is_refused() -> None:
    """Python's own limit, which is no error of JSON's."""
    with pytest.raises(ConfigError, match="not JSON"):
        plan_from_json("1" * 5000)


@given(
    st.text()
    | st.recursive(st.none() | st.integers() | st.text(), lambda x: st.dictionaries(st.text(), x)).map(json.dumps)
)
def test_noise_is_refused_not_crashed_on(text: str) -> None:
    for parse in (plan_from_json, sensitivity_from_json):
        with pytest.raises(QuantFaceError):
            parse(text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        load_plan(tmp_path / "none.json")


def test_a_byte_order_mark_is_no_part_of_a_plan(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(plan_to_json(PLAN), "utf-8-sig")
    assert load_plan(tmp_path / "plan.json") == PLAN
