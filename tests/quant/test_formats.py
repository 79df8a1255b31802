"""Layers' formats in a file: the version that they need, and values that no layer has."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import quantface_core as qf
from quantface_core.errors import ModelError
from quantface_core.nn.swap import is_pointwise, quant_layers, quantizable
from tests.quant.checkpoints import CONFIG, IMAGES, autoencoder, rewritten, version_and_layers


def test_a_file_says_the_version_that_it_needs_and_earlier_releases_read_one_of_less(
    file: Path, tmp_path: Path
) -> None:
    pointwise = [name for name, layer in quantizable(autoencoder()).items() if is_pointwise(layer)]
    second, plain = tmp_path / "second.safetensors", tmp_path / "plain.safetensors"
    floats = replace(CONFIG, branch_bits=16)
    for path, config, excluded in ((second, floats, []), (plain, replace(floats, search_zero_point=False), pointwise)):
        model = autoencoder()
        qf.quantize(model, IMAGES, config, exclude=excluded)
        qf.save_quantized(model, path)
    versions, tables = zip(*map(version_and_layers, (file, second, plain)), strict=True)
    assert versions == ("3", "2", "1")
    assert ["branch_bits" in json.dumps(table) for table in tables] == [True, False, False]
    assert ["zero_point" in json.dumps(table) for table in tables] == [True, True, False]
    for path in (file, second, plain):
        loaded = qf.load_quantized(path)
        for field, absent in (("zero_point", None), ("per_pixel", False), ("branch_bits", 16)):
            stored = {name: table.get(field, absent) for name, table in version_and_layers(path)[1].items()}
            assert {n: getattr(layer.format, field) for n, layer in quant_layers(loaded).items()} == stored
    assert [n for n, table in tables[0].items() if "per_pixel" in table] == pointwise


@pytest.mark.parametrize("zero_point", [-1, 9, 1.5, "4", True])
def test_zero_points_that_are_none_are_refused(file: Path, tmp_path: Path, zero_point: Any) -> None:
    layers = version_and_layers(file)[1]
    name = next(name for name, table in layers.items() if table["activation_bits"] == 4)
    layers[name]["zero_point"] = zero_point
    with pytest.raises(ModelError, match=f"{name}.*zero.point"):
        qf.load_quantized(rewritten(file, tmp_path / "lie", layers=json.dumps(layers)))


@pytest.mark.parametrize(("pointwise", "value"), [(True, None), (True, 1), (True, "yes"), (False, True)])
def test_scales_by_pixel_are_of_pointwise_convolutions(file: Path, tmp_path: Path, pointwise: bool, value: Any) -> None:
    layers = version_and_layers(file)[1]
    name = next(name for name, table in layers.items() if ("per_pixel" in table) == pointwise)
    layers[name]["per_pixel"] = value
    with pytest.raises(ModelError, match=f"{name}.per_pixel"):
        qf.load_quantized(rewritten(file, tmp_path / "lie", layers=json.dumps(layers)))


@pytest.mark.parametrize("branch_bits", [4, 8.0, "8", None])
def test_a_branch_of_other_widths_is_refused(file: Path, tmp_path: Path, branch_bits: Any) -> None:
    layers = version_and_layers(file)[1]
    name = next(name for name, table in layers.items() if "branch_bits" in table)
    layers[name]["branch_bits"] = branch_bits
    with pytest.raises(ModelError, match=f"{name}.branch_bits"):
        qf.load_quantized(rewritten(file, tmp_path / "lie", layers=json.dumps(layers)))


@pytest.mark.parametrize("scale", ["down_scale", "up_scale", "weight_scale", "channel_scale"])
def test_scales_are_above_zero(file: Path, tmp_path: Path, scale: str) -> None:
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith(scale))
    tensors[name][0] = 0
    with safe_open(file, framework="pt") as opened:
        save_file(tensors, tmp_path / "zero", opened.metadata())
    with pytest.raises(ModelError, match="scales are zero"):
        qf.load_quantized(tmp_path / "zero")
