"""Other people's weight files: which one is damaged, and that it is told."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from quantface_core.errors import ModelError
from quantface_core.io.atomic import atomic_path
from quantface_core.io.tensor_files import open_tensors, read_pickle


def test_the_file_that_cannot_be_read_is_the_one_that_is_named(tmp_path: Path) -> None:
    """Not the one that was opened last, nor the one that is written."""
    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    for path in paths:
        save_file({"x": torch.ones(2)}, path)

    def broken(_: str) -> Tensor:
        raise OSError(5, "Input/output error")

    with open_tensors(paths[0]) as file, open_tensors(paths[1]):
        file._read = broken
        told = pytest.raises(ModelError, match=r"a\.safetensors: cannot read .Input/output")
        with told, atomic_path(tmp_path / "out.safetensors"):
            file.read("x")
    with pytest.raises(KeyError), open_tensors(paths[0]):
        raise KeyError("the caller's")
    with pytest.raises(SafetensorError), open_tensors(paths[0]):
        raise SafetensorError("another file's")


@pytest.mark.parametrize("name", ["m.pth", "m.safetensors"])
def test_a_failed_download_is_told_as_such(tmp_path: Path, name: str) -> None:
    for content, told in ((b"<!DOCTYPE html><html>", "a web page, not a model"), (b"", "the file is empty")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=told):
            read_pickle(tmp_path / name)
        with pytest.raises(ModelError, match=told), open_tensors(tmp_path / name):
            pass


def test_a_file_that_is_not_there_is_not_told_as_damaged(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.pth: cannot read .No such file"):
        read_pickle(tmp_path / "gone.pth")
    with pytest.raises(ModelError, match=r"gone\.pth: cannot read .No such file"), open_tensors(tmp_path / "gone.pth"):
        pass


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [False, True])
def test_a_damaged_pickle_is_refused_wherever_it_is_damaged(tmp_path: Path, zipped: bool) -> None:
    """What reading one comes to cannot be enumerated."""
    path, draws = tmp_path / "model.pth", random.Random(0)
    state = {f"layer.{number}.weight": torch.ones(2, 3) for number in range(4)}
    torch.save({"params": state}, path, _use_new_zipfile_serialization=zipped)
    assert read_pickle(path, ("params",)).keys() == state.keys()
    whole = path.read_bytes()
    for _ in range(60):
        content = bytearray(whole)
        content[draws.randrange(len(whole))] ^= 1 << draws.randrange(8)
        path.write_bytes(content[: draws.randrange(len(whole)) if draws.random() < 0.5 else None])
        with suppress(ModelError):
            read_pickle(path)
