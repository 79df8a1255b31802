"""Threads spin for a moment only, in the command and wherever torch is loaded after us."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quantface_core.runtime.threads import spin_briefly

_NAMES = ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT")


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {k: v for k, v in os.environ.items() if k not in _NAMES})


@pytest.mark.usefixtures("clean")
def test_nobody_chose() -> None:
    spin_briefly()
    assert {n: os.environ.get(n) for n in _NAMES} == {
        "OMP_WAIT_POLICY": None, "KMP_BLOCKTIME": "1", "GOMP_SPINCOUNT": "2000"
    }  # fmt: skip


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.usefixtures("clean")
def test_what_somebody_chose_stays(name: str) -> None:
    os.environ[name] = "100"
    spin_briefly()
    assert {n: os.environ.get(n) for n in _NAMES} == {n: "100" if n == name else None for n in _NAMES}


@pytest.mark.parametrize("libgomp", [sys.platform == "linux"])
def test_the_command_has_it_before_torch_loads(libgomp: bool) -> None:
    """GNU's OpenMP shows what it read when it loads."""
    code = "from quantface_core.cli.main import main\ntry: main(['--version'])\nexcept SystemExit: pass\nimport torch"
    environment = {k: v for k, v in os.environ.items() if k not in _NAMES} | {"OMP_DISPLAY_ENV": "VERBOSE"}
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], env=environment, cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    if not libgomp or "GOMP_SPINCOUNT" not in run.stderr:
        pytest.skip("torch's OpenMP here does not show its settings")
    assert "GOMP_SPINCOUNT = '2000'" in run.stderr
