from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from quantface_core.errors import ModelError, UsageError
from quantface_core.io.checkpoint import load_restorer, save_restorer
from quantface_core.io.models import restorer_path
from quantface_core.restorer import OneStepRestorer


@pytest.fixture(scope="module")
def file(tiny: OneStepRestorer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_restorer(tiny, path, torch.float32, notes={"licence": "test"})
    return path


def rewritten(file: Path, target: Path, **changes: str | None) -> Path:
    """The same tensors under changed metadata; None drops a field."""
    with open(file, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
    metadata = {**header["__metadata__"], **changes}
    save_file(load_file(file), target, {k: v for k, v in metadata.items() if v is not None})
    return target


def with_config(file: Path, target: Path, path: str, value: Any) -> Path:
    """The same tensors under a configuration in which one field, given by its dotted path, differs."""
    with open(file, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
    config = json.loads(header["__metadata__"]["config"])
    *parents, last = path.split(".")
    table = config
    for parent in parents:
        table = table[parent]
    table[last] = value
    return rewritten(file, target, config=json.dumps(config))


def test_paths_may_be_strings(tiny: OneStepRestorer, tmp_path: Path) -> None:
    save_restorer(tiny, str(tmp_path / "new" / "tiny.safetensors"))
    assert load_restorer(str(tmp_path / "new" / "tiny.safetensors")).config == tiny.config


def test_save_and_load_give_the_same_picture(file: Path, tiny: OneStepRestorer) -> None:
    image = torch.rand(2, 3, 64, 64) * 2 - 1
    loaded = load_restorer(file)
    assert loaded.config == tiny.config
    assert torch.allclose(loaded(image), tiny(image), atol=1e-4)  # float sums in another memory order
    assert torch.equal(loaded(image), load_restorer(file)(image))


def test_half_precision_halves_the_file(file: Path, tiny: OneStepRestorer, tmp_path: Path) -> None:
    save_restorer(tiny, tmp_path / "half.safetensors", torch.float16)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * file.stat().st_size
    assert load_restorer(tmp_path / "half.safetensors").dtype == torch.float32


def test_precision_is_the_files_when_none_is_asked(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32, but bfloat16 between integers where the processor has it."""
    bundled = restorer_path("quantface-mini-w4a4")
    for native, expected in ((True, torch.bfloat16), (False, torch.float32)):
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            monkeypatch.setattr(torch.cpu, name, lambda native=native: native, raising=False)
        assert load_restorer(file, dtype=None).dtype == torch.float32
        assert load_restorer(bundled, dtype=None).dtype == expected


def test_weights_that_do_not_fit_are_not_written(tiny: OneStepRestorer, tmp_path: Path) -> None:
    model = OneStepRestorer(tiny.config)
    with torch.no_grad():
        model.unet.conv_in.bias[0] = 1e6
    with pytest.raises(ModelError, match=r"unet\.conv_in\.bias"):
        save_restorer(model, tmp_path / "x.safetensors", torch.float16)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": None}, "not a QuantFace checkpoint"),
        ({"version": "99"}, "update QuantFace"),
        ({"config": "{"}, "not JSON"),
        ({"config": "[" * 100_000}, "not JSON"),
        ({"config": "[]"}, "RestorerConfig must be a table"),
        ({"config": "{}"}, "missing fields"),
    ],
)
def test_lying_metadata(file: Path, tmp_path: Path, changes: dict[str, str | None], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_restorer(rewritten(file, tmp_path / "lie.safetensors", **changes))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("surprise", 1, "unknown fields"),
        ("image_size", 10**9, r"image_size: a whole number from 32 to 4096"),
        ("image_size", True, "image_size"),
        ("timestep", -1, "timestep"),
        ("unet.block_out_channels", [10**9], r"unet\.block_out_channels"),
        ("unet.block_out_channels", [32] * 1000, r"unet\.block_out_channels"),
        ("unet.layers_per_block", 10**6, r"unet\.layers_per_block"),
        ("unet.down_block_types", ["os.system"], r"unet\.down_block_types"),
        ("unet.down_block_types", [["DownBlock2D"]], r"unet\.down_block_types"),
        ("unet.addition_embed_type", "text", "not a field this version knows"),
        ("unet.cross_attention_dim", 64, "they must be equal"),
        ("unet.norm_num_groups", 7, "cannot build"),
        ("vae.scaling_factor", 0, r"vae\.scaling_factor"),
        ("vae.scaling_factor", "1", r"vae\.scaling_factor"),
        ("vae", None, "vae: a table"),
        ("embedder.codes", 10**12, r"embedder\.codes"),
        ("embedder.codes", 32, r"embedder\.codebook\.weight has shape"),
        ("embedder.base_channels", 48, "multiple of 32"),
        ("embedder.channel_multipliers", "12", r"embedder\.channel_multipliers"),
        ("name", "", "name"),
    ],
)
def test_lying_configuration(file: Path, tmp_path: Path, path: str, value: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_restorer(with_config(file, tmp_path / "lie.safetensors", path, value))


def test_wrong_tensors(file: Path, tmp_path: Path) -> None:
    with open(file, "rb") as f:
        metadata = json.loads(f.read(int.from_bytes(f.read(8), "little")))["__metadata__"]
    tensors = load_file(file)
    name = "unet.conv_in.weight"
    cases = {
        "missing: unet.conv_in.weight": {n: t for n, t in tensors.items() if n != name},
        "not expected: extra": {**tensors, "extra": torch.zeros(1)},
        "has shape": {**tensors, name: tensors[name][:1].clone()},
        "is I64": {**tensors, name: tensors[name].long()},
        "not finite": {**tensors, name: tensors[name] * float("nan")},
    }
    for message, changed in cases.items():
        save_file(changed, tmp_path / "wrong.safetensors", metadata)
        with pytest.raises(ModelError, match=message):
            load_restorer(tmp_path / "wrong.safetensors")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_truncated_or_flipped_files_never_crash(file: Path, tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(file.read_bytes())
    header = int.from_bytes(whole[:8], "little") + 8
    if data.draw(st.booleans(), label="truncate"):
        whole = whole[: data.draw(st.integers(0, len(whole) - 1), label="length")]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            whole[data.draw(st.integers(0, header - 1), label="where")] = data.draw(st.integers(0, 255), label="byte")
    (tmp_path / "broken.safetensors").write_bytes(whole)
    # A flip may land in a note or leave another valid configuration of the same shapes: then it loads.
    with contextlib.suppress(ModelError):
        assert isinstance(load_restorer(tmp_path / "broken.safetensors"), OneStepRestorer)


def test_no_such_file_or_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "no.safetensors", tmp_path):
        with pytest.raises(ModelError):
            load_restorer(path)


def test_a_file_that_is_overwritten_takes_nothing_from_a_model_in_use(tmp_path: Path) -> None:
    bundled = restorer_path("quantface-mini-w4a4")
    shutil.copy(bundled, tmp_path / "file")
    loaded, wanted = load_restorer(tmp_path / "file").state_dict(), load_restorer(bundled).state_dict()
    with (tmp_path / "file").open("r+b") as file:  # in place, as cp does
        file.write(bytes(bundled.stat().st_size))
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in loaded.items())


def test_notes_and_settings_that_no_file_holds_are_refused(tiny: OneStepRestorer, tmp_path: Path, file: Path) -> None:
    with pytest.raises(UsageError, match="reserved by the format, rename the notes: family"):
        save_restorer(tiny, tmp_path / "file", notes={"family": "portraits"})
    with pytest.raises(UsageError, match="a dtype is"):
        load_restorer(file, dtype=torch.int8)
    with pytest.raises(UsageError, match="the device nowhere cannot be used here"):
        load_restorer(file, "nowhere")


def test_what_is_no_restorer_is_not_saved(tmp_path: Path) -> None:
    for model, kind in (("model.safetensors", "str"), (torch.nn.Linear(2, 2), "Linear")):
        with pytest.raises(UsageError, match=f"got a {kind}: save_quantized writes any low-bit model"):
            save_restorer(model, tmp_path / "model.safetensors")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_what_killed_processes_left_beside_a_model_goes(tiny: OneStepRestorer, tmp_path: Path) -> None:
    left = tmp_path / ".quantface-0123456789abcdef.safetensors"
    left.touch()
    save_restorer(tiny, tmp_path / "file.safetensors")
    assert left.exists()  # it may still be written
    os.utime(left, (0, 0))
    save_restorer(tiny, tmp_path / "file.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["file.safetensors"]


def test_a_name_in_place_of_a_file_is_told_how_it_is_loaded() -> None:
    with pytest.raises(ModelError, match=r"load_restorer\(restorer_path\('quantface-mini'\)\) loads it"):
        load_restorer("quantface-mini")
