"""`quantface build` of OSDFace from nothing: fetched, converted, quantized; killed anywhere, it goes on."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import quantface_core.io.tensor_files
import quantface_core.pipelines.models
from quantface_core.cli.main import main
from quantface_core.io.checksum import sha256
from quantface_core.io.recipes import load_recipe
from tests.io.conftest import hub, lora, narrow, originals  # noqa: F401
from tests.io.local_hub import LocalHub
from tests.random_originals import NARROW

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")

# An SVD branch: gradients may fail in a forked process whose parent has used them.
RECIPE = """
source = "osdface"
[calibrate]
images = 2
weight_bits = 4
activation_bits = 4
scaling = false
clipping = false
rounding = "nearest"
rank = 4
branch = "svd"
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums differ in the last bit with the number of threads, and a forked process has one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def build(hub: LocalHub, originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:  # noqa: F811
    """The command, over a Hub that holds the originals."""
    hub.add_folder(originals)
    monkeypatch.setattr("quantface_core.io.osdface.OSDFACE", NARROW)
    (tmp_path / "osdface-quick.toml").write_text(RECIPE)
    return ["build", str(tmp_path / "osdface-quick.toml"), "--output", str(tmp_path / "out.safetensors")]


def run_until_killed(command: list[str], prepare: Callable[[], None], hub: LocalHub | None = None, at: int = 0) -> None:  # noqa: F811
    """Run the command in a process of its own, which `prepare` (or the hub, once it has sent `at` bytes) kills."""

    def child() -> None:
        torch.set_num_threads(1)
        prepare()
        main(command)

    process = multiprocessing.get_context("fork").Process(target=child)
    if hub:
        start = hub.sent
        hub.watch = lambda sent: sent - start >= at and process.pid and os.kill(process.pid, signal.SIGKILL)
    process.start()
    process.join(120)
    if hub:
        hub.watch = lambda sent: None
    assert process.exitcode == -signal.SIGKILL


def kill_at_call(module: Any, name: str, number: int) -> Callable[[], None]:
    """Replace a function by itself, and by the end of the process at its n-th call."""

    def prepare() -> None:
        real, calls = getattr(module, name), iter(range(1, number))

        def counted(*arguments: Any, **named: Any) -> Any:
            if next(calls, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        setattr(module, name, counted)

    return prepare


def test_killed_anywhere_it_resumes_and_ends_the_same(
    build: list[str],
    hub: LocalHub,  # noqa: F811
    originals: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "osdface-quick.toml").write_text(f'{RECIPE}parts = ["embedder"]\n')  # its few layers: built three times
    out, models = tmp_path / "out.safetensors", tmp_path / "models"
    whole = sum(path.stat().st_size for path in originals.rglob("*") if path.is_file())

    run_until_killed(build, lambda: None, hub, at=whole // 10)
    run_until_killed(build, lambda: None, hub, at=whole // 2)
    assert not (models / "osdface.safetensors").exists()
    run_until_killed(build, kill_at_call(quantface_core.io.tensor_files.TensorFile, "read", 300))
    assert not (models / "osdface.safetensors").exists()
    run_until_killed(build, kill_at_call(quantface_core.pipelines.models, "save_restorer", 1))
    assert (models / "osdface.safetensors").exists()
    asked = len(hub.requests)
    run_until_killed(build, kill_at_call(quantface_core.pipelines.models, "save_restorer", 2))
    assert not out.exists()
    assert main(build) == 0
    assert len(hub.requests) == asked  # what was fetched is not asked for again
    assert [path.name for path in models.glob("*osdface*") if path.suffix != ".lock"] == ["osdface.safetensors"]

    monkeypatch.setenv("QUANTFACE_MODELS_DIR", str(tmp_path / "other"))
    straight = tmp_path / "straight.safetensors"
    assert main([*build[:-1], str(straight)]) == 0
    assert sha256(straight) == sha256(out)
    restored = tmp_path / "restored.png"
    photo = Path(quantface_core.__file__).parent / "assets" / "astronaut.jpg"
    assert main(["restore", str(photo), "--model", str(out), "--output", str(restored)]) == 0
    assert restored.exists()


@pytest.mark.parametrize("bits", ["w4a4", "w4a6", "w6a6"])
def test_the_shipped_recipes_start_from_the_originals(bits: str) -> None:
    recipe = load_recipe(f"osdface-{bits}")
    assert recipe.source == "osdface"
    assert f"w{recipe.quantize.weight_bits}a{recipe.quantize.activation_bits}" == bits


def test_restoring_with_a_recipe_s_name_makes_its_model_first(
    build: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("quantface_core.io.recipes._FOLDER", tmp_path)
    photo = Path(quantface_core.__file__).parent / "assets" / "astronaut.jpg"
    command = ["restore", str(photo), "--model", "osdface-quick", "--output", str(tmp_path / "restored.png")]
    assert main(command) == 0
    assert (tmp_path / "models" / "osdface-quick.safetensors").exists()
    assert list((tmp_path / "models").glob("*.build")) == []
    first = (tmp_path / "restored.png").read_bytes()
    assert main([*command, "--low-memory"]) == 0
    assert (tmp_path / "restored.png").read_bytes() == first
    assert main(["models"]) == 0
    printed = capsys.readouterr()
    assert "osdface-quick is built from osdface first" in printed.err
    assert re.search(r"osdface-quick +build +yes +.* MB +osdface", printed.out)
    assert main(["info", "osdface-quick"]) == 0
