"""What is installed where, and that nothing is where there is no WebUI."""

from __future__ import annotations

import configparser
import importlib.util
import re
import runpy
import subprocess
import sys
from argparse import ArgumentParser
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import quantface_core.requirements
from quantface_webui import requirements
from tests.webui.conftest import ROOT


@pytest.mark.parametrize(
    ("program", "shown"),
    [
        (r"C:\ui\python.exe", r"C:\ui\python.exe"),  # in quotes, PowerShell would not run it
        (r"C:\my ui\python.exe", r'"C:\my ui\python.exe"'),
    ],
)
def test_the_remedy_can_be_pasted(monkeypatch: pytest.MonkeyPatch, program: str, shown: str) -> None:
    monkeypatch.setattr(sys, "executable", program)
    assert requirements.install_command(Path("install.py")) == f'{shown} "install.py" --by-hand'


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers is not there, as in A1111."""
    find, number = importlib.util.find_spec, quantface_core.requirements._version
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "diffusers" else find(name))
    monkeypatch.setattr(
        quantface_core.requirements, "_version", lambda name: None if name == "diffusers" else number(name)
    )
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The host's launcher: the commands it is asked to run, with the constraints' text after each."""
    asked: list[str] = []

    def run_pip(command: str, what: str) -> None:
        asked.append(command)
        if "--constraint" in command:
            asked.append(Path(command.split('"')[-2]).read_text("utf-8"))

    launch = ModuleType("launch")
    vars(launch)["run_pip"] = run_pip
    monkeypatch.setitem(sys.modules, "launch", launch)
    return asked


def test_the_webui_asks_for_what_the_package_asks_for() -> None:
    bounds = {line.partition(";")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()}
    assert set(requirements._NEEDED.values()) <= bounds


def test_only_what_is_missing_is_asked_for(absent: None, launched: list[str]) -> None:
    runpy.run_path(str(ROOT / "install.py"))
    command, constraints = launched
    [wanted] = requirements.missing_requirements()
    assert command.startswith(f'install "{wanted}" --constraint ')
    import numpy as np

    assert f"torch=={version('torch')}\n" in constraints
    assert f"numpy=={np.__version__}\n" in constraints


def test_a_package_that_lost_its_files_is_installed_again(launched: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenCV, whose folder is left when one of two that are installed is uninstalled; pip takes it for installed."""
    find, left = importlib.util.find_spec, ModuleSpec("cv2", None, is_package=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: left if name == "cv2" else find(name))
    monkeypatch.syspath_prepend(str(ROOT))
    runpy.run_path(str(ROOT / "install.py"))
    command, constraints = launched
    assert command.startswith('install --force-reinstall --no-deps "opencv-python-headless>=4.8" --constraint "')
    assert f"opencv-python-headless=={version('opencv-python-headless')}\n" in constraints


def test_nothing_is_done_where_all_is_there(launched: list[str]) -> None:
    runpy.run_path(str(ROOT / "install.py"))
    assert launched == []


def test_it_runs_by_a_python_that_leaves_its_folder_out(tmp_path: Path) -> None:
    """As ComfyUI-Manager runs it by the portable version's, which is isolated."""
    run = subprocess.run([sys.executable, "-I", ROOT / "install.py"], capture_output=True, text=True, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize(
    ("torch", "transformers", "wanted"),
    [
        ("2.1.2", "4.48.0", "diffusers>=0.30,<0.36"),
        ("2.4.0", "4.48.0", "diffusers>=0.30"),
        ("2.13.0", "4.30.2", "diffusers>=0.30,<0.36"),  # A1111's, beside a torch for newer GPUs
        ("2.13.0", None, "diffusers>=0.30"),
    ],
)
def test_old_torch_and_transformers_get_an_older_diffusers(
    absent: None, torch: str, transformers: str | None, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = {"torch": torch} | ({"transformers": transformers} if transformers else {})

    def known(name: str) -> str:
        if name not in installed:
            raise requirements.importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(requirements.importlib.metadata, "version", known)
    assert requirements.missing_requirements() == [wanted]


def test_the_script_names_what_skip_install_left_out(absent: None, webui: Any) -> None:
    command = requirements.install_command(ROOT / "install.py")
    with pytest.raises(ImportError, match=rf"QuantFace needs diffusers.*: run {re.escape(command)}, then restart"):
        webui.load()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Commands given to the shell, with the constraints' text after each; from the second on they fail."""
    seen: list[str] = []

    def run(command: str, shell: bool) -> SimpleNamespace:
        assert shell
        seen.append(command)
        seen.append(Path(command.split('"')[-2]).read_text("utf-8"))
        return SimpleNamespace(returncode=len(seen) - 2)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setitem(sys.modules, "launch", None)
    return seen


def test_by_hand_too_no_installed_package_changes(
    absent: None, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that the script names, without the host's launcher."""
    monkeypatch.setattr(sys, "argv", ["install.py", "--by-hand"])
    monkeypatch.setattr("quantface_webui.requirements.missing_requirements", lambda: ["diffusers>=0.30", "peft<0.10"])
    runpy.run_path(str(ROOT / "install.py"))
    command, constraints = asked
    assert command.startswith(f'{sys.executable} -m pip install "diffusers>=0.30" "peft<0.10" --constraint "')
    assert f"torch=={version('torch')}\n" in constraints
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "install.py"))
    assert stopped.value.code == 2


@pytest.mark.parametrize("launch", [None, ModuleType("launch")], ids=["none", "another package's"])
def test_without_a_webui_it_installs_what_comfyui_lacks(
    launch: ModuleType | None, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ComfyUI-Manager runs it; what is replaced is not held, everything else is."""
    monkeypatch.setitem(sys.modules, "launch", launch)
    monkeypatch.setattr("quantface_core.requirements.unmet_requirements", lambda _: ["diffusers>=0.30", "peft>=0.12"])
    runpy.run_path(str(ROOT / "install.py"))
    command, constraints = asked
    assert command.startswith(f'{sys.executable} -m pip install "diffusers>=0.30" "peft>=0.12" --constraint "')
    held = {line.partition("==")[0] for line in constraints.splitlines()}
    assert held >= {"torch", "safetensors"}
    assert not held & {"diffusers", "peft"}


def test_offline_pip_s_words_are_told_without_a_traceback(absent: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_pip(command: str, what: str) -> None:
        raise RuntimeError(f"Couldn't install {what}.\nERROR: no matching distribution")

    launch = ModuleType("launch")
    vars(launch)["run_pip"] = run_pip
    monkeypatch.setitem(sys.modules, "launch", launch)
    with pytest.raises(SystemExit, match=r"Couldn't install what QuantFace needs.\nERROR: no matching"):
        runpy.run_path(str(ROOT / "install.py"))


def test_the_command_line_takes_a_models_folder() -> None:
    parser = ArgumentParser()
    runpy.run_path(str(ROOT / "preload.py"))["preload"](parser)
    assert parser.parse_args(["--quantface-models-path", "x"]).quantface_models_path == "x"
    assert parser.parse_args([]).quantface_models_path is None


@pytest.mark.parametrize("given", ["option", "environment"])
def test_a_models_folder_may_begin_with_the_home(
    script: Any, webui: Any, tmp_path: Path, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No shell expands `--option=~/folder`, nor what a settings file says of the environment."""
    from quantface_webui import host

    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("QUANTFACE_MODELS_DIR", "~/faces" if given == "environment" else "")
    webui.shared.cmd_opts.quantface_models_path = "~/faces" if given == "option" else None
    assert host.models_folders() == [tmp_path / "faces", webui.models]


def test_metadata_can_be_read() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "metadata.ini")
    assert config["Extension"]["Name"] == "quantface"


def test_nothing_stands_in_the_host_s_way() -> None:
    for name in ("modules", "launch.py", "scripts/__init__.py", "webui.py"):
        assert not (ROOT / name).exists()
    assert [path.name for path in (ROOT / "scripts").glob("*.py")] == ["quantface.py"]  # the host loads every one
