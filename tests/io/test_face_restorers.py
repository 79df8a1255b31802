"""Which files hold a published face restorer, and what is said of those that do not, or no longer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from quantface_core.errors import ModelError
from quantface_core.io.checkpoint import load_restorer, save_restorer
from quantface_core.io.face_restorers import architecture_in, architecture_of
from quantface_core.restorer import OneStepRestorer
from tests.published import ARCHITECTURES, FILES

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_architecture_is_told_by_its_keys(published: Path, tmp_path: Path, architecture: str) -> None:
    named = tmp_path / "anything.pth"
    named.write_bytes((published / FILES[architecture]).read_bytes())
    assert architecture_in(named) == architecture
    state = torch.load(named, weights_only=True)
    state = state.get("params_ema", state)
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in state.items()}}, named, _use_new_zipfile_serialization=False
    )
    assert architecture_in(named) == architecture  # as torch wrote before 1.6, and wrapped otherwise
    assert load_restorer(named).config.name == architecture
    save_file({k: v.contiguous().clone() for k, v in state.items()}, tmp_path / "m.safetensors")
    assert architecture_in(tmp_path / "m.safetensors") == architecture
    assert load_restorer(tmp_path / "m.safetensors").config.name == architecture


def test_the_authors_own_restoreformer_is_one(published: Path, tmp_path: Path) -> None:
    """Its training saved it within another module, beside its losses."""
    state, path = torch.load(published / FILES["RestoreFormer"], weights_only=True), tmp_path / "RestoreFormer.ckpt"
    within = {f"vqvae.{name}": tensor for name, tensor in state.items()}
    torch.save({"state_dict": {"loss.weight": torch.zeros(1), **within}, "global_step": 7}, path)
    assert architecture_in(path) == "RestoreFormer"
    faces = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    known = load_restorer(published / FILES["RestoreFormer"])
    assert torch.equal(load_restorer(path)(faces), known(faces))


def test_restoreformer_plus_plus_is_not_taken_for_restoreformer(published: Path, tmp_path: Path) -> None:
    """A menu that lists it would promise what spandrel cannot do."""
    state, path = torch.load(published / FILES["RestoreFormer"], weights_only=True), tmp_path / "RestoreFormer++.ckpt"
    more = {"vqvae.decoder.up.4.attn.0.norm1.weight": torch.ones(1)}
    torch.save({"state_dict": {f"vqvae.{name}": tensor for name, tensor in state.items()} | more}, path)
    assert architecture_in(path) is None
    with pytest.raises(ModelError, match="holds no supported face restorer"):
        load_restorer(path)


def test_a_file_s_format_is_told_by_its_content(published: Path, tiny: OneStepRestorer, tmp_path: Path) -> None:
    """People rename files."""
    pickled, safe = tmp_path / "pickle.safetensors", tmp_path / "safe.pth"
    pickled.write_bytes((published / FILES["GFPGAN"]).read_bytes())
    state = torch.load(published / FILES["RestoreFormer"], weights_only=True)
    save_file({k: v.contiguous().clone() for k, v in state.items()}, safe)
    for path, architecture in ((pickled, "GFPGAN"), (safe, "RestoreFormer")):
        assert architecture_in(path) == architecture
        assert load_restorer(path).config.name == architecture
    save_restorer(load_restorer(safe), tmp_path / "own.safetensors")
    own = (tmp_path / "own.safetensors").rename(tmp_path / "own.pth")
    assert architecture_in(own) is None
    assert load_restorer(own).config.name == "RestoreFormer"


def test_ours_and_strangers_are_none_of_them(published: Path, tiny: OneStepRestorer, tmp_path: Path) -> None:
    save_restorer(tiny, tmp_path / "tiny.safetensors")
    save_restorer(load_restorer(published / FILES["RestoreFormer"]), tmp_path / "own.safetensors")
    torch.save({"conv.weight": torch.zeros(2)}, tmp_path / "other.pth")
    (tmp_path / "empty.pth").touch()
    for path in [*tmp_path.iterdir(), tmp_path / "gone.pth"]:
        assert architecture_in(path) is None
    assert load_restorer(tmp_path / "own.safetensors").config.name == "RestoreFormer"
    with pytest.raises(ModelError, match="holds no supported face restorer"):
        load_restorer(tmp_path / "other.pth")


def test_a_menu_reads_a_file_once(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts build theirs at every prompt."""
    path = tmp_path / "own.safetensors"
    save_restorer(load_restorer(published / FILES["CodeFormer"]), path)
    assert architecture_of(path) == "CodeFormer"
    with monkeypatch.context() as later:
        later.setattr(Path, "open", lambda *_: pytest.fail("read again"))
        assert architecture_of(path) == "CodeFormer"
    path.unlink()
    save_restorer(load_restorer(published / FILES["RestoreFormer"]), path)
    assert architecture_of(path) == "RestoreFormer"
    path.unlink()
    assert architecture_of(path) is None


def damaged(state: dict[str, Any], how: str) -> dict[str, Any]:
    name = "encoder.conv_in.weight"
    if how == "shape":
        return {**state, name: state[name][:, :1]}
    if how == "missing":
        return {k: v for k, v in state.items() if k != name.replace("encoder", "decoder")}
    return {**state, name: state[name] * float("nan")}


@pytest.mark.parametrize(("how", "told"), [("shape", "or damaged"), ("missing", "or damaged"), ("nan", "not finite")])
def test_a_damaged_file_is_told_in_one_line(published: Path, tmp_path: Path, how: str, told: str) -> None:
    state = torch.load(published / FILES["RestoreFormer"], weights_only=True)
    torch.save(damaged(state, how), tmp_path / "r.pth")
    with pytest.raises(ModelError, match=told) as error:
        load_restorer(tmp_path / "r.pth")
    assert "\n" not in str(error.value)
    assert str(tmp_path / "r.pth") in str(error.value)


def test_half_a_download_is_told_as_such(published: Path, tmp_path: Path) -> None:
    content = (published / FILES["GFPGAN"]).read_bytes()
    (tmp_path / "g.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="damaged, or still downloading"):
        load_restorer(tmp_path / "g.pth")


class Code:
    def __reduce__(self) -> Any:
        return os.system, ("false",)


def test_code_in_a_file_is_refused(published: Path, tmp_path: Path) -> None:
    state = torch.load(published / FILES["RestoreFormer"], weights_only=True)
    torch.save({**state, "more": Code()}, tmp_path / "r.pth")
    with pytest.raises(ModelError, match="refused, it holds more than weights"):
        load_restorer(tmp_path / "r.pth")


def test_what_a_host_refuses_to_read_is_told(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A1111 has a torch.load of its own, with another order of arguments, that gives None for what it mistrusts."""

    def load(filename: str, extra_handler: Any = None, *args: Any, **options: Any) -> None:
        assert isinstance(filename, str)
        assert not args
        assert extra_handler is None

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(ModelError, match="refused, it is not plain weights"):
        load_restorer(published / FILES["GFPGAN"])


def test_what_is_not_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "GPEN-BFR-512.onnx").write_bytes(b"\x08\x06\x12\x07pytorch")
    with pytest.raises(ModelError, match="ONNX network, such as GPEN"):
        load_restorer(tmp_path / "GPEN-BFR-512.onnx")
    torch.save({"params_ema": {"conv_body_first.0.weight": torch.zeros(1)}}, tmp_path / "GFPGANv1.pth")
    with pytest.raises(ModelError, match="first release"):
        load_restorer(tmp_path / "GFPGANv1.pth")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_spandrel_it_says_what_to_install(
    published: Path, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in ("spandrel", "spandrel_extra_arches")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("spandrel", "spandrel_extra_arches"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModelError, match=r"pip install spandrel") as error:
        load_restorer(published / FILES[architecture])
    assert ("spandrel-extra-arches" in str(error.value)) == (architecture == "CodeFormer")
    assert architecture_in(published / FILES[architecture]) == architecture  # a menu still lists it


def test_the_library_imports_without_spandrel() -> None:
    code = (
        "import sys; sys.modules['spandrel'] = sys.modules['spandrel_extra_arches'] = None\n"
        "import quantface_core.restorer, quantface_core.io.checkpoint, quantface_core.io.face_restorers"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
