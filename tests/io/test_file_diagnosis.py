"""A file that is no model is told as what it is."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch

from quantface_core.errors import ModelError
from quantface_core.io.checkpoint import load_restorer, read_notes
from quantface_core.io.models import restorer_path
from quantface_core.quant.checkpoint import load_quantized


def _pickle() -> bytes:
    file = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, file)
    return file.getvalue()


FILES = {
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n", "Git LFS pointer"),
    "page": (b"\n<!DOCTYPE html><html><head><title>model", "web page"),
    "pickle": (_pickle(), "PyTorch pickle"),
    "old pickle": (b"\x80\x02}q\x00.", "PyTorch pickle"),
    "gguf": (b"GGUF\3\0\0\0", "GGUF"),
    "empty": (b"", "empty"),
    "noise": (bytes(range(200)), "damaged, or not a safetensors file"),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("name", ["m.safetensors", "m.pth"])
def test_what_it_is(tmp_path: Path, kind: str, name: str) -> None:
    content, told = FILES[kind]
    (tmp_path / name).write_bytes(content)
    for read in (load_restorer, read_notes):
        with pytest.raises(ModelError, match=told) as error:
            read(tmp_path / name)
        assert name in str(error.value)
        assert "\n" not in str(error.value)


def test_a_folder_is_told_as_one(tmp_path: Path) -> None:
    for read in (load_restorer, read_notes, load_quantized):
        with pytest.raises(ModelError, match="a folder: give the model's file in it"):
            read(tmp_path)


def test_a_folder_is_told_as_one_where_it_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows, where safetensors says that there is no such file."""

    def refuse(path: Path, framework: str) -> None:
        raise FileNotFoundError(f"No such file or directory: {path}")

    monkeypatch.setattr("quantface_core.quant.model_file.safe_open", refuse)
    (tmp_path / "model.safetensors").write_bytes(bytes(16))
    for path, reason in ((tmp_path, "a folder: give"), (tmp_path / "model.safetensors", "cannot be opened")):
        with pytest.raises(ModelError, match=reason):
            read_notes(path)


def test_a_file_of_another_suffix_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.pth").write_bytes(_pickle())
    assert restorer_path("m.pth") == Path("m.pth")
    with pytest.raises(ModelError, match="no such model file"):
        restorer_path("gone.ckpt")
