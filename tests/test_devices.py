"""Nothing is left behind when a model computes on another device: see `standin`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration


@pytest.fixture(scope="module")
def endings() -> dict[str, str]:
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this torch has no devices made of Python")
    command = [sys.executable, "-m", "tests.standin"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("flow", ["restore", "quantize", "allocate", "train", "train_blocks"])
def test_all_tensors_are_on_one_device(endings: dict[str, str], flow: str) -> None:
    assert endings[flow] == ""


def test_tensors_of_two_devices_are_refused(endings: dict[str, str]) -> None:
    assert any(word in endings["mix"] for word in ("DeviceMismatch", "same device"))  # 2.13's, 2.14's
