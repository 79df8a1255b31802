"""From nothing to a restorer: `osdface` built out of a local Hub's repositories."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from quantface_core.cli.main import main
from quantface_core.errors import ModelError
from quantface_core.io.checkpoint import load_restorer
from quantface_core.io.checksum import sha256
from quantface_core.io.models import restorer_path
from quantface_core.restorer import OneStepRestorer
from tests.io.ldm_layout import to_single_file
from tests.io.local_hub import Fault, LocalHub
from tests.random_originals import NARROW, SD


@pytest.fixture
def served(hub: LocalHub, originals: Path, monkeypatch: pytest.MonkeyPatch) -> LocalHub:
    hub.add_folder(originals)
    monkeypatch.setattr("quantface_core.io.osdface.OSDFACE", NARROW)
    return hub


def test_the_originals_become_one_file_and_go(served: LocalHub, originals: Path, tmp_path: Path) -> None:
    told: list[str] = []
    path = restorer_path("osdface", told.append)
    assert path == tmp_path / "models" / "osdface.safetensors"
    assert load_restorer(path).config == NARROW
    assert [p for p in path.parent.iterdir() if not p.name.endswith(".lock")] == [path]
    assert "built from its authors' files: about 3.8 GB to fetch" in told[0]
    assert "licence: not stated by OSDFace's authors" in told[1]
    with safe_open(path, framework="pt") as file:
        notes = file.metadata()
    checksums = json.loads(notes["originals"])
    assert checksums["lora"] == sha256(originals / "alecccdd/OSDFace/pytorch_lora_weights.safetensors")
    served.requests.clear()
    assert restorer_path("osdface", told.append) == path
    assert served.requests == []


def test_the_commands(served: LocalHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    assert re.search(r"osdface +build +no +3,920 MB +its authors' files", capsys.readouterr().out)
    assert main(["fetch", "osdface"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "models" / "osdface.safetensors")
    (tmp_path / "models" / "mine.safetensors").touch()
    assert main(["models"]) == 0
    listed = capsys.readouterr().out
    assert re.search(r"osdface +build +yes", listed)
    assert re.search(r"mine +local +yes", listed)
    assert re.search(r"mini-w4a4 +train +no +quantface-mini", listed)
    assert f"models folder: {tmp_path / 'models'}" in listed


@pytest.mark.parametrize("file", ["associate_2.ckpt", "pytorch_lora_weights.safetensors"])
def test_a_missing_original_is_named_and_the_rest_kept(served: LocalHub, tmp_path: Path, file: str) -> None:
    kept = served.files.pop(f"alecccdd/OSDFace/{file}")
    with pytest.raises(ModelError, match=f"alecccdd/OSDFace holds none of {file}"):
        restorer_path("osdface")
    served.files[f"alecccdd/OSDFace/{file}"] = kept
    before = len(served.downloads())
    restorer_path("osdface")
    fetched = {path.rpartition("/")[2] for path in served.downloads()[before:]}
    assert file in fetched
    assert "diffusion_pytorch_model.safetensors" not in fetched


def test_what_a_killed_conversion_left_goes_with_the_next(
    served: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gigabytes, at full size. What another run writes into the models folder meanwhile is not its affair."""
    with monkeypatch.context() as patched:
        patched.setattr("quantface_core.io.osdface.write_tensors", lambda *_: os._exit(9))
        run = multiprocessing.get_context("fork").Process(target=restorer_path, args=("osdface",))
        run.start()
        run.join()
    assert run.exitcode == 9
    models = tmp_path / "models"
    assert list(models.rglob(".quantface-*.safetensors"))
    (models / ".quantface-another.safetensors").touch()
    path = restorer_path("osdface")
    left = {p.name for p in models.rglob("*") if p.is_file() and p.suffix != ".lock"}
    assert left == {path.name, ".quantface-another.safetensors"}


def test_a_mirror_of_the_single_file_is_asked_for_it_once(
    served: LocalHub, narrow: OneStepRestorer, originals: Path
) -> None:
    folder = f"{SD}/"
    for name in [name for name in served.files if name.startswith(folder)]:
        del served.files[name]
    served.files[f"{folder}v2-1_512-ema-pruned.safetensors"] = save(to_single_file(narrow))
    path = restorer_path("osdface")
    single = [path for path in served.downloads() if path.endswith("v2-1_512-ema-pruned.safetensors")]
    assert len(single) == 1
    found = load_restorer(path).state_dict()["vae.encoder.conv_in.weight"]
    assert torch.equal(found, narrow.state_dict()["vae.encoder.conv_in.weight"])
    with safe_open(path, framework="pt") as file:
        checksums = json.loads(file.metadata()["originals"])
    assert checksums["unet"] == checksums["vae"]


def test_a_damaged_original_leaves_no_model(served: LocalHub, tmp_path: Path) -> None:
    served.fault = Fault(flip=True)
    with pytest.raises(ModelError, match="damaged in transit"):
        restorer_path("osdface")
    served.fault = Fault(times=0)
    assert load_restorer(restorer_path("osdface")).config == NARROW


def test_no_room_is_told_before_anything_is_fetched(
    served: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**11, 10**11 - 10**9, 10**9))
    with pytest.raises(ModelError, match=r"osdface needs 7,\d\d\d MB more on the disk of .*, 1,000 MB are free"):
        restorer_path("osdface")
    assert served.requests == []
