"""Docstrings cite pages of this repository, and sections that they have."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("quantface_core", "nodes", "quantface_webui", "training", "benchmarks")
METHOD = "docs/method.md"


def sources() -> dict[Path, str]:
    return {path: path.read_text("utf-8") for package in PACKAGES for path in (ROOT / package).rglob("*.py")}


def test_cited_pages_are_in_the_repository() -> None:
    cited = {(path, page) for path, text in sources().items() for page in re.findall(r"\bdocs/[\w/]+\.md\b", text)}
    assert METHOD in {page for _, page in cited}
    assert {(path, page) for path, page in cited if not (ROOT / page).is_file()} == set()
    assert [path for path, text in sources().items() if "DESIGN" + ".md" in text] == []


def test_cited_sections_of_the_method_exist() -> None:
    present = set(re.findall(r"^## (\d+)\.", (ROOT / METHOD).read_text("utf-8"), re.MULTILINE))
    for path, text in sources().items():
        for cited in re.findall(rf"{re.escape(METHOD)},\s+sections?\s+([\d, andto]*\d)", text):
            assert set(re.findall(r"\d+", cited)) <= present, path
