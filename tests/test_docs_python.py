"""docs/python.md names everything that is public, and the fields of the settings with their defaults."""

from __future__ import annotations

import re
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest

import quantface_core as qf

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text("utf-8")
SETTINGS = (qf.RestoreOptions, qf.QuantConfig, qf.Budget, qf.DistillConfig, qf.TrainerConfig)


def default_of(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def test_every_public_name_has_a_row() -> None:
    before, _ = PAGE.split("\n## Fields\n")
    cells = re.findall(r"^\| ([^|]+) \|", before, re.MULTILINE)
    listed = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(listed) == sorted(qf.__all__)


def test_every_public_name_is_listed_before_its_first_use() -> None:
    assert dir(qf) == sorted(qf.__all__)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: s.__name__)
def test_every_field_has_a_row_with_its_default(settings: type) -> None:
    section = PAGE.split(f"\n### `{settings.__name__}`\n")[1].split("\n### ")[0]
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \|", section, re.MULTILINE)
    listed = {name: eval(text, {"TrainerConfig": qf.TrainerConfig}) for name, text in rows}
    assert listed == {field.name: default_of(field) for field in fields(settings)}
