"""Which packages are to be installed beside those that are here, and by which command."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from quantface_core import requirements
from quantface_core.requirements import install_command, pip_constraints, unmet_requirements

FILE = """# a comment
diffusers>=0.30
peft>=0.12
opencv-python-headless>=4.8
pulp>=2.8  # another
torch>=2.4
tomli>=2.0; python_version < "3"
highspy>=1.7; python_version >= "3" or platform_machine == "arm64"
"""
FITTING = {
    "diffusers": "0.39.0",
    "highspy": "1.16.0",
    "huggingface-hub": "0.36.2",
    "peft": "0.21.2",
    "pulp": "3.3.2",
    "torch": "2.13.0",
}


def unmet(installed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """With these versions, and a diffusers that needs a hub by its own; cv2 is another package's, as it often is."""
    hub = ">=1.32.0,<3.0" if installed.get("diffusers", "") >= "0.40" else "<2.0,>=0.34"
    needs = {"diffusers": [f"huggingface-hub{hub}", "peft<0.1; extra == 'training'", "absent>=3"]}
    monkeypatch.setattr(requirements, "_version", installed.get)
    monkeypatch.setattr(requirements.importlib.metadata, "requires", needs.get)
    there = {*(name.replace("-", "_") for name in installed), "cv2"}
    monkeypatch.setattr(requirements, "is_present", there.__contains__)
    return unmet_requirements(FILE)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, []),
        ({"diffusers": "0.42.1"}, ["diffusers>=0.30"]),  # as after pip's installing one requirement after the other
        ({"diffusers": "0.42.1", "huggingface-hub": "2.4.0"}, []),
        ({"diffusers": "0.29.2"}, ["diffusers>=0.30"]),
        ({"pulp": None, "peft": None}, ["peft>=0.12", "pulp>=2.8"]),
        ({"peft": "0.20.0.dev0"}, []),  # built from source
        ({"torch": "2.1.2+cu121"}, []),  # is never replaced
        ({"highspy": None}, ["highspy>=1.7"]),  # without its marker, whose quotes a shell would take for its own
    ],
)
def test_what_is_absent_or_does_not_fit_is_wanted(
    changed: dict[str, str | None], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = {name: version for name, version in {**FITTING, **changed}.items() if version}
    assert unmet(installed, monkeypatch) == expected


def test_here_nothing_is_wanted() -> None:
    text = (Path(__file__).parents[1] / "requirements.txt").read_text()
    assert unmet_requirements(text) == []


@pytest.mark.parametrize(
    ("program", "pip", "command"),
    [
        ("/home/me/.venv/bin/python", True, '/home/me/.venv/bin/python -m pip install "av>=17.1"'),
        ("/home/o'brien/python", True, '"/home/o\'brien/python" -m pip install "av>=17.1"'),
        (r"C:\my ui\python.exe", True, r'"C:\my ui\python.exe" -m pip install "av>=17.1"'),
        ("/home/me/.venv/bin/python", False, 'uv pip install -p /home/me/.venv/bin/python "av>=17.1"'),
    ],
)
def test_packages_are_installed_for_the_python_in_use(
    program: str, pip: bool, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if pip else None)
    assert install_command('"av>=17.1"') == command


def test_packages_are_held_at_the_version_that_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind it on sys.path may be others of its name, in another spelling, and what pip could not remove."""
    folders = [("first", "~me_pack-0.1", "Some.Pack"), ("first", "some_pack-2.0", "some_pack")]
    folders += [("second", "Some_Pack-1.0", "Some-Pack"), ("second", "~one-0.1", "gone")]
    for place, folder, name in folders:
        path = tmp_path / place / f"{folder}.dist-info"
        path.mkdir(parents=True)
        version = folder.partition("-")[2]
        (path / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", "utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), str(tmp_path / "second")])
    assert pip_constraints() == "some_pack==2.0\n"
    assert pip_constraints(without=("some-pack",)) == ""
