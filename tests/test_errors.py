"""Parts of messages: a few of many names, the most similar known one, what to run, another's error as one line."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest

from quantface_core.errors import explain_broken_import, first_few, install_command, one_line, suggestion


@pytest.mark.parametrize(
    ("names", "words"), [([], "none"), (["a", "b", "c"], "a, b, c"), (list("abcde"), "a, b, c and 2 more")]
)
def test_the_first_few_names_and_how_many_more(names: list[str], words: str) -> None:
    assert first_few(names) == words


def test_the_most_similar_name_is_suggested() -> None:
    assert suggestion("lpipz", ["ssim", "lpips"]) == "; did you mean lpips?"
    assert suggestion("unlike", ["ssim", "lpips"]) == ""
    assert suggestion("any", iter(())) == ""


@pytest.mark.parametrize(
    ("program", "pip", "command"),
    [
        ("/home/me/.venv/bin/python", True, '/home/me/.venv/bin/python -m pip install "av>=17.1"'),
        (r"C:\my ui\python.exe", True, r'"C:\my ui\python.exe" -m pip install "av>=17.1"'),
        ("/home/me/.venv/bin/python", False, 'uv pip install --python /home/me/.venv/bin/python "av>=17.1"'),
    ],
)
def test_packages_are_installed_for_the_python_in_use(
    program: str, pip: bool, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if pip else None)
    assert install_command('"av>=17.1"') == command


@pytest.mark.parametrize(
    ("inner", "package", "reason"),
    [
        ("import json; json.loads('{')", "outer", "Expecting property name"),
        ("raise RuntimeError('CUDA Setup failed')", "outer", "CUDA Setup failed"),
        ("import nowhere", "outer", "No module named 'nowhere'"),
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


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("\n two  words \nand a story"), "two words"),
        (KeyError(), "KeyError"),
        (FileNotFoundError(2, "No such file", "a.png"), "No such file"),
        (OSError("no network"), "no network"),
        (RuntimeError("x" * 300), "x" * 17 + "..."),
    ],
)
def test_an_errors_message_is_one_short_line(error: Exception, line: str) -> None:
    assert one_line(error, 20) == line
