"""Training scripts import each other by name, as scripts of one folder do."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / "training"


@pytest.fixture
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script that the test's file is named after, loaded anew; weights are drawn from a fixed seed."""
    torch.manual_seed(0)
    monkeypatch.syspath_prepend(str(SCRIPTS))
    for script in SCRIPTS.glob("*.py"):
        sys.modules.pop(script.stem, None)
    return importlib.import_module(request.path.stem.removeprefix("test_"))
