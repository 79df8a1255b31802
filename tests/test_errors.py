"""Parts of messages: a few of many names, the most similar known one, another's error as one line."""

from __future__ import annotations

import pytest

from quantface_core.errors import first_few, one_line, suggestion


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
