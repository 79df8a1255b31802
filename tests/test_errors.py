"""Parts of messages: a few of many names, the most similar known one, what to run, another's error as one line."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from quantface_core.errors import first_few, install_command, one_line, suggestion


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
