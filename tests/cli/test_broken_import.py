"""Which package does not work."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

import quantface_core
from quantface_core.cli.broken_import import explain_broken_import
from quantface_core.errors import one_line


@pytest.mark.parametrize(
    ("inner", "package", "reason"),
    [
        ("import json; json.loads('{')", "outer", "Expecting property name"),
        ("raise RuntimeError('CUDA Setup failed')", "outer", "CUDA Setup failed"),
        ("import nowhere", "outer", "No module named 'nowhere'"),
        ("import importlib; importlib.import_module('nowhere')", "outer", "No module named 'nowhere'"),  # as cv2 does
        ("def use(): raise ImportError('an incompatible version')", "outer", "an incompatible version"),
        ("def use(): raise RuntimeError('computing failed')", None, "computing failed"),
    ],
)
def test_a_package_that_does_not_work_is_named(
    inner: str, package: str | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the innermost module that was being imported, whatever raised the error again."""
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer" / "__init__.py").write_text("from .inner import use")
    (tmp_path / "outer" / "inner.py").write_text(inner)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("outer", "outer.inner"):  # those of the other cases
        monkeypatch.delitem(sys.modules, name, raising=False)
    again = RuntimeError("Failed to import, look up to see why")
    with pytest.raises(Exception, match=reason) as first:
        importlib.import_module("outer").use()
    again.__cause__ = first.value
    told = f"{package} does not work here ({one_line(first.value)}): update it, or uninstall it if nothing needs it"
    assert explain_broken_import(again) == (told if package else None)


def test_a_module_of_quantface_is_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(quantface_core._HOMES, "lost", "nowhere")
    with pytest.raises(ModuleNotFoundError) as error:
        _ = quantface_core.lost
    assert explain_broken_import(error.value) is None
