"""The places that name packages and their versions agree."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def named(text: str, relation: str) -> dict[str, str]:
    """Packages whose version a text gives by this relation."""
    return dict(re.findall(rf"^\"?([\w-]+){relation}([\w.]+)", text, re.MULTILINE))


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    if sys.version_info < (3, 11):
        pytest.skip("reads TOML by Python 3.11's own library")
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def bounds(project: dict[str, Any]) -> dict[str, str]:
    return named("\n".join(project["dependencies"]), ">=")


def test_comfyui_s_manager_installs_what_the_package_asks_for(bounds: dict[str, str]) -> None:
    assert named((ROOT / "requirements.txt").read_text(), ">=") == bounds


def test_the_lowest_versions_are_those_the_tests_were_run_with(project: dict[str, Any], bounds: dict[str, str]) -> None:
    tried = named((ROOT / "tests" / "lowest.txt").read_text(), "==")
    others = ("tomli", "highspy")  # of older and newer Pythons
    asked = {name: version for name, version in bounds.items() if name not in others}
    asked |= named("\n".join(project["optional-dependencies"]["video"]), ">=")
    assert tried.keys() == asked.keys()
    for name, version in asked.items():
        assert f"{tried[name]}.".startswith(f"{version}."), name


@pytest.mark.parametrize(("python", "is_pinned"), [("3.10", True), ("3.14", True), ("3.15", False)])
def test_a_python_newer_than_the_pinned_torch_s_builds_takes_the_newest(python: str, is_pinned: bool) -> None:
    (pinned,) = (Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#")
    assert pinned.marker
    assert pinned.marker.evaluate({"python_version": python}) == is_pinned
