"""A package that names a function in its metadata adds restorers and backends to every process, and harms none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

import quantface_core
from quantface_core.quant.model_file import RESTORER, write_model

CORE = Path(quantface_core.__file__).parent
TOY = """
import dataclasses
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import torch


@dataclasses.dataclass
class Config:
    name: str
    image_size: int
    to_dict = dataclasses.asdict


def register(qf):
    with Path(__file__).with_name("calls.txt").open("a") as calls:
        calls.write(qf.__name__ + "\\n")

    class Toy(qf.RestorerModel):
        family = "toy"

        def __init__(self, config):
            super().__init__()
            self.config, self.layer = config, torch.nn.Conv2d(3, 3, 1)

        def forward(self, image, seeds=None):
            return self.layer(image).float().clamp(-1, 1)

    qf.register_restorer(Toy, lambda table: Config(**table))
    parts = vars(import_module(qf.__name__ + ".kernels.reference"))
    parts = {name: parts[name] for name in ("Linear", "Conv2d", "supports", "unavailable")}
    qf.register_backend("toy-backend", SimpleNamespace(**parts))
"""


def distribution(folder: Path, name: str, code: str) -> None:
    """Install a package whose `register` is its plugin, as pip leaves it."""
    module = name.replace("-", "_")
    (folder / module).mkdir()
    (folder / module / "__init__.py").write_text(code)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[quantface.plugins]\nany = {module}:register\n")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed packages, with one that registers a restorer and a backend."""
    folder = tmp_path / "site"
    folder.mkdir()
    distribution(folder, "toy-restorer", TOY)
    return folder


def run(site: Path, *command: object) -> subprocess.CompletedProcess[str]:
    """Python with these packages, from the folder beside them."""
    paths = os.pathsep.join([str(site), str(CORE.parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, env=environment, cwd=site.parent)


def calls(site: Path) -> list[str]:
    """The names of the libraries that the plugin was called with."""
    path = site / "toy_restorer" / "calls.txt"
    return path.read_text().split() if path.exists() else []


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file of the package's restorer."""
    config = {"name": "mine", "image_size": 64}
    described = {"format": RESTORER, "family": "toy", "config": json.dumps(config)}
    torch.manual_seed(0)
    write_model(nn.ModuleDict({"layer": nn.Conv2d(3, 3, 1)}), tmp_path / "toy.safetensors", described)
    return tmp_path / "toy.safetensors"


@pytest.fixture
def photo(site: Path, test_faces: list[Path]) -> Path:
    path = site.parent / "photo.png"
    Image.open(test_faces[0]).resize((160, 160)).save(path)
    return path


def test_the_command_restores_with_a_package_s_restorer(site: Path, model: Path, photo: Path) -> None:
    done = run(site, "-m", "quantface_core", "restore", photo, "--model", model, "--strength", 1, "-o", "out.png")
    assert done.returncode == 0, done.stderr
    assert calls(site) == ["quantface_core"]
    assert Image.open(site.parent / "out.png").tobytes() != Image.open(photo).tobytes()


def test_the_command_computes_on_a_package_s_backend(site: Path, photo: Path) -> None:
    restore = ["-m", "quantface_core", "restore", photo, "-o", "out.png", "--json", "report.json", "--backend"]
    done = run(site, *restore, "toy-backend")
    assert done.returncode == 0, done.stderr
    assert json.loads((site.parent / "report.json").read_text())["backend"] == "toy-backend"


def test_ray_s_workers_know_a_package_s_restorer(site: Path, model: Path, photo: Path) -> None:
    pytest.importorskip("ray.data", reason="needs the extra ray")
    restore = ["restore", photo, "--model", model, "--strength", 1, "--ray", "local", "--threads", 1, "-o", "out"]
    done = run(site, "-m", "quantface_core", *restore)
    assert done.returncode == 0, done.stderr
    assert Image.open(site.parent / "out" / "photo.png").tobytes() != Image.open(photo).tobytes()


def test_a_copy_of_the_library_gets_restorers_of_its_own(site: Path, model: Path) -> None:
    """As ComfyUI loads it: under the pack's name, whether or not it is installed."""
    copy = f"""import importlib.util, sys
spec = importlib.util.spec_from_file_location("pack", {str(CORE / "__init__.py")!r})
sys.modules["pack"] = pack = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pack)
assert isinstance(pack.load_restorer({str(model)!r}), pack.RestorerModel)
assert "quantface_core" not in sys.modules
"""
    done = run(site, "-c", copy)
    assert done.returncode == 0, done.stderr
    assert calls(site) == ["pack"]


def test_no_package_is_asked_for_what_the_library_has(site: Path) -> None:
    code = """import torch, quantface_core as qf
from quantface_core.kernels.dispatch import choose_backend
qf.load_restorer(qf.restorer_path("quantface-mini-w4a4"))
choose_backend(torch.device("cpu"), "reference")
"""
    done = run(site, "-c", code)
    assert done.returncode == 0, done.stderr
    assert calls(site) == []


def test_a_package_that_fails_is_named_once_and_the_others_are_loaded(site: Path, model: Path) -> None:
    distribution(site, "a-broken", "import nowhere")
    distribution(site, "b-broken", "register = None")
    distribution(site, "z-broken", "def register(qf): qf.register_restorer(dict, dict)")
    load = "import sys, quantface_core as qf; [qf.load_restorer(sys.argv[1]) for _ in range(2)]"
    done = run(site, "-c", load, model)
    assert done.returncode == 0, done.stderr
    for name, reason in {
        "a-broken": "ModuleNotFoundError: No module named 'nowhere'",
        "b-broken": "TypeError: 'NoneType' object is not callable",
        "z-broken": "UsageError: a restorer derives from quantface_core.RestorerModel, got <class 'dict'>",
    }.items():
        assert done.stderr.count(f"the plugin any of {name} is left out: {reason}") == 1
    assert calls(site) == ["quantface_core"]
