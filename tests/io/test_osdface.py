"""The converter against random originals in the authors' formats, at narrow widths."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from quantface_core.errors import ModelError
from quantface_core.io.checkpoint import load_restorer
from quantface_core.io.osdface import convert
from quantface_core.restorer import OneStepRestorer
from tests.io.ldm_layout import to_single_file
from tests.random_originals import NARROW, write_originals

Files = dict[str, Path]


@pytest.fixture
def files(narrow: OneStepRestorer, lora: dict[str, Tensor], tmp_path: Path) -> Files:
    return write_originals(narrow, lora, tmp_path / "originals")


@pytest.fixture(scope="module")
def merged(narrow: OneStepRestorer, lora: dict[str, Tensor]) -> dict[str, Tensor]:
    """The result as the formula says: W + B A, tap by tap, in float64."""
    state = {name: tensor.double() for name, tensor in narrow.state_dict().items()}
    for key in lora:
        if ".lora_A." in key:
            down, up = lora[key].double(), lora[key.replace("lora_A", "lora_B")].double()
            name = key.replace(".lora_A.weight", ".weight")
            equation = "ri,or->oi" if down.ndim == 2 else "rihw,or->oihw"
            state[name] = state[name] + torch.einsum(equation, down, up.flatten(1))
    return state


def result(files: Files, target: Path) -> dict[str, Tensor]:
    convert(files, target, config=NARROW)
    return load_file(target)


def check(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name].double(), tensor, atol=1e-6, rtol=1e-6, msg=name)


def test_diffusers_folder(files: Files, merged: dict[str, Tensor], tmp_path: Path) -> None:
    check(result(files, tmp_path / "out.safetensors"), merged)
    restorer = load_restorer(tmp_path / "out.safetensors")
    assert restorer.config == NARROW
    assert restorer(torch.zeros(1, 3, 64, 64)).isfinite().all()


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_the_single_file_of_the_original_code(
    files: Files, narrow: OneStepRestorer, merged: dict[str, Tensor], tmp_path: Path, suffix: str
) -> None:
    single = tmp_path / f"v2-1_512-ema-pruned{suffix}"
    state = to_single_file(narrow)
    if suffix == ".ckpt":
        torch.save({"state_dict": state, "global_step": 1}, single)
    else:
        save_file(state, single)
    check(result({**files, "unet": single, "vae": single}, tmp_path / "out.safetensors"), merged)


def test_old_attention_names_pickles_and_half_precision(
    files: Files, narrow: OneStepRestorer, merged: dict[str, Tensor], tmp_path: Path
) -> None:
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for name, tensor in narrow.vae.state_dict().items():
        for new, former in old.items():
            name = name.replace(f".{new}.", f".{former}.")
        state[name] = tensor[:, :, None, None] if name.endswith(("query.weight", "proj_attn.weight")) else tensor
    torch.save(state, files["vae"])  # the name says safetensors, the content decides
    found = result(files, tmp_path / "out.safetensors")
    check(found, merged)
    half_precision = {name: tensor.half() for name, tensor in state.items()}
    torch.save(half_precision, files["vae"], _use_new_zipfile_serialization=False)  # torch before 1.6
    half = result(files, tmp_path / "half.safetensors")["vae.encoder.conv_in.weight"]
    assert torch.equal(half, found["vae.encoder.conv_in.weight"].half().float())


def test_lora_in_the_older_style(files: Files, merged: dict[str, Tensor], tmp_path: Path) -> None:
    pairs = load_file(files["lora"])
    styled = {k.replace("lora_A", "lora.down").replace("lora_B", "lora.up"): t for k, t in pairs.items()}
    save_file(styled, files["lora"])
    check(result(files, tmp_path / "out.safetensors"), merged)


def test_alpha_from_metadata_and_from_tensors(
    files: Files, narrow: OneStepRestorer, merged: dict[str, Tensor], tmp_path: Path
) -> None:
    # Copied: the file they are mapped from is written anew.
    name, pairs = "unet.conv_in", {key: pair.clone() for key, pair in load_file(files["lora"]).items()}
    base = narrow.state_dict()[f"{name}.weight"].double()
    delta = merged[f"{name}.weight"] - base
    settings = {"unet.r": 16, "unet.lora_alpha": 4}
    save_file(pairs, files["lora"], {"lora_adapter_metadata": json.dumps(settings)})
    found = result(files, tmp_path / "a.safetensors")[f"{name}.weight"]
    torch.testing.assert_close(found.double(), base + delta / 4, atol=1e-6, rtol=1e-6)
    save_file({**pairs, f"{name}.alpha": torch.tensor(32.0)}, files["lora"])
    found = result(files, tmp_path / "b.safetensors")[f"{name}.weight"]
    torch.testing.assert_close(found.double(), base + delta * 2, atol=1e-6, rtol=1e-6)


def test_the_published_embedder_s_second_norms_and_nothing_else_is_dropped(files: Files, tmp_path: Path) -> None:
    state = torch.load(files["embedder"], weights_only=True)["state_dict"]
    assert sum(".norm2." in name and ".attn" in name for name in state) == 6
    assert sum(name.startswith("vqvae_LQ.") and "decoder" not in name and "post" not in name for name in state) == 173
    state["vqvae_LQ.encoder.down.0.norm2.weight"] = torch.ones(32)
    torch.save({"state_dict": state}, files["embedder"])
    with pytest.raises(ModelError, match=r"not expected: vqvae_LQ\.encoder\.down\.0\.norm2\.weight in associate_2"):
        convert(files, tmp_path / "out.safetensors", config=NARROW)


def dropped(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("unet", lambda s: dropped(s, "conv_in.weight"), r"missing: unet\.conv_in\.weight"),
        ("unet", lambda s: {**s, "spare.weight": torch.ones(1)}, r"not expected: spare\.weight in diffusion_pytorch"),
        ("unet", lambda s: {**s, "conv_in.bias": torch.ones(3)}, r"conv_in\.bias has shape \[3\].*needs \[32\]"),
        ("vae", lambda s: {**s, "quant_conv.bias": s["quant_conv.bias"] * float("nan")}, r"quant_conv\.bias is not"),
        ("projection", lambda s: dropped(s, "conv2.bias"), r"missing: embedder\.projection\.conv2\.bias"),
        ("lora", lambda s: dropped(s, "unet.conv_in.lora_B.weight"), r"not LoRA pairs.*unet\.conv_in\.lora_A"),
        ("lora", lambda s: {**s, "text.bias": torch.ones(1)}, r"not LoRA pairs: text\.bias"),
        ("lora", lambda s: {}, "not LoRA pairs: empty"),
        ("lora", lambda s: {k.replace("conv_in", "gone"): t for k, t in s.items()}, r"the UNet has no unet\.gone"),
        ("lora", lambda s: {**s, "unet.conv_in.lora_A.weight": torch.ones(16, 5)}, r"do not fit a weight of \[32, 4"),
    ],
)
def test_every_key_is_accounted_for(
    files: Files, tmp_path: Path, part: str, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    path = files[part]
    state = torch.load(path, weights_only=True) if path.suffix == ".pth" else load_file(path)
    changed = change(dict(state))
    if path.suffix == ".pth":
        torch.save(changed, path)
    else:
        save_file(changed, path)
    with pytest.raises(ModelError, match=message):
        convert(files, tmp_path / "out" / "model.safetensors", config=NARROW)
    assert list((tmp_path / "out").glob("*")) == []


class Trap:
    """A pickle that would run a command."""

    def __reduce__(self) -> tuple[object, ...]:
        import os

        return os.system, ("touch trap-was-sprung",)


def test_a_pickle_of_more_than_tensors_is_refused(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "trap": Trap()}, files["embedder"])
    with pytest.raises(ModelError, match="refused, it holds more than weights"):
        convert(files, tmp_path / "out.safetensors", config=NARROW)
    assert not (tmp_path / "trap-was-sprung").exists()


@pytest.mark.parametrize(
    "content", [b"", b"no tensors", b"PK\x03\x04 broken zip", b"\x10\0\0\0\0\0\0\0{broken json...."]
)
def test_what_is_no_file_of_tensors(files: Files, tmp_path: Path, content: bytes) -> None:
    for part in ("unet", "embedder"):
        kept = files[part].read_bytes()
        files[part].write_bytes(content)
        with pytest.raises(ModelError, match=r"damaged|the file is empty"):
            convert(files, tmp_path / "out.safetensors", config=NARROW)
        files[part].write_bytes(kept)


def test_the_same_originals_give_the_same_bytes(files: Files, tmp_path: Path) -> None:
    for name in ("a", "b"):
        convert(files, tmp_path / name, {"note": "x"}, NARROW)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
