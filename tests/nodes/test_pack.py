"""The pack as ComfyUI starts it: its folders, and what it needs."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import re
import sys
from importlib.machinery import ModuleSpec
from types import SimpleNamespace
from typing import Any

import pytest

from tests.nodes.conftest import ROOT


def test_the_library_fetches_into_the_host_s_models_folder(
    pack: Any, host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QUANTFACE_MODELS_DIR")
    asyncio.run(pack.comfy_entrypoint())
    assert os.environ["QUANTFACE_MODELS_DIR"] == str(host.models / "quantface")


def test_the_users_own_models_folder_comes_first(
    pack: Any, host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As extra_model_paths.yaml names it, before any pack is loaded."""
    monkeypatch.delenv("QUANTFACE_MODELS_DIR")
    host.folders["quantface"] = (["/elsewhere"], set())
    asyncio.run(pack.comfy_entrypoint())
    assert os.environ["QUANTFACE_MODELS_DIR"] == "/elsewhere"
    assert host.folders["quantface"][0] == ["/elsewhere", str(host.models / "quantface")]


def test_a_second_copy_is_told(pack: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two folders in custom_nodes, the page gets both's scripts, and may run those of one with the other's nodes."""
    assert not any("twice" in record.getMessage() for record in caplog.get_records("setup"))  # one copy is not
    spec = importlib.util.spec_from_file_location("zip", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec
    assert spec.loader
    monkeypatch.setitem(sys.modules, "zip", importlib.util.module_from_spec(spec))
    spec.loader.exec_module(sys.modules["zip"])
    for name in [name for name in sys.modules if name.startswith("zip.")]:
        monkeypatch.delitem(sys.modules, name)
    assert caplog.text.count(f"installed twice: remove {ROOT} or {ROOT}") == 1


@pytest.mark.parametrize(
    ("module", "left", "python", "program", "shown"),
    [
        # in quotes, PowerShell would not run it
        ("peft", None, sys.version_info, r"C:\ui\python.exe", r"C:\ui\python.exe"),
        ("tomli", None, (3, 10), r"C:\my ui\python.exe", r'"C:\my ui\python.exe"'),
        ("cv2", ModuleSpec("cv2", None, is_package=True), sys.version_info, "/ui/python", "/ui/python"),  # its folder
    ],
)
def test_a_missing_requirement_is_told_at_the_start(
    host: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    left: Any,
    python: Any,
    program: str,
    shown: str,
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: left if name == module else found(name))
    monkeypatch.setattr(sys, "version_info", python)
    monkeypatch.setattr(sys, "executable", program)
    spec = importlib.util.spec_from_file_location(
        "packed", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec
    assert spec.loader
    monkeypatch.setitem(sys.modules, "packed", importlib.util.module_from_spec(spec))
    remedy = f'{shown} "{ROOT / "install.py"}"'
    with pytest.raises(ImportError, match=re.escape(f"QuantFace needs {module}: {remedy}")):
        spec.loader.exec_module(sys.modules["packed"])
