"""What a host's menu offers, and the file of a choice."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantface_core.errors import ModelError
from quantface_core.io.model_menu import choice_path, menu_choices, strip_mark


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUANTFACE_MODELS_DIR", str(tmp_path))
    return tmp_path


def find_in(folder: Path):
    return lambda name: folder / name if (folder / name).is_file() else None


def test_names_tell_what_choosing_them_takes(folder: Path) -> None:
    shown = menu_choices(find_in(folder), ["mine.safetensors"])
    assert shown[0] == "quantface-mini-w4a4 (bundled)"
    assert {"quantface-mini (bundled)", "osdface (build)", "osdface-w4a4 (build)"} <= set(shown)
    assert shown[-1] == "mine.safetensors"
    (folder / "osdface-w4a4.safetensors").touch()
    shown = menu_choices(find_in(folder), ["osdface-w4a4.safetensors", "quantface-mini.safetensors"])
    assert "osdface-w4a4 (local)" in shown
    assert shown[-1] == "quantface-mini.safetensors"  # another model than the package's
    assert "osdface-w4a4.safetensors" not in shown


def test_a_choice_s_file_whatever_its_mark(folder: Path) -> None:
    find = find_in(folder)
    bundled = choice_path("quantface-mini (local)", find)
    assert bundled == choice_path("quantface-mini", find)
    assert bundled is not None
    assert bundled.is_file()
    assert choice_path("osdface-w4a4 (local)", find) is None
    (folder / "osdface-w4a4.safetensors").touch()
    assert choice_path("osdface-w4a4 (build)", find) == folder / "osdface-w4a4.safetensors"
    (folder / "sub").mkdir()
    (folder / "sub" / "mine.safetensors").touch()
    assert choice_path("sub\\mine.safetensors", find) == folder / "sub/mine.safetensors"
    with pytest.raises(ModelError, match=r"no model 'gone': choose one of .*osdface"):
        choice_path("gone", find)


def test_plain_names() -> None:
    assert strip_mark("osdface-w4a4 (build)") == strip_mark("osdface-w4a4") == "osdface-w4a4"
    assert strip_mark("my (best) model.safetensors") == "my (best) model.safetensors"


def test_a_catalogue_that_cannot_be_read_is_told_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("QUANTFACE_CATALOGUE", str(folder / "gone.toml"))
    assert "osdface (build)" in menu_choices(find_in(folder))
    assert len(caplog.messages) == 1
