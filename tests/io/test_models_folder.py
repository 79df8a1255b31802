"""A user without a home folder, or with one that may not be read: what is bundled works, the rest is told in words."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from quantface_core.errors import ConfigError, ModelError
from quantface_core.io.catalogue import models_folder
from quantface_core.io.models import detector_path, own_models, restorer_path, stated_licence

_HOMES = ("HOME", "USERPROFILE", "HOMEPATH", "HOMEDRIVE", "XDG_CACHE_HOME", "QUANTFACE_MODELS_DIR")


@pytest.fixture
def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _HOMES:
        monkeypatch.delenv(name, raising=False)
    if sys.platform != "win32":
        import pwd

        def unknown(user: int) -> Any:
            raise KeyError(user)

        monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.fixture
def locked_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    stat = os.stat

    def refusing(path: Any, *given: Any, **named: Any) -> os.stat_result:
        if str(path).startswith(str(tmp_path)):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *given, **named)

    monkeypatch.setenv("QUANTFACE_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setattr(os, "stat", refusing)
    return tmp_path


@pytest.mark.parametrize("home", ["no_home", "locked_home"])
def test_what_is_bundled_needs_no_models_folder(home: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(home)
    assert detector_path().name.endswith(".onnx")
    mini = restorer_path("quantface-mini-w4a4")
    assert stated_licence(mini)
    assert own_models() == {}
    with pytest.raises(ModelError, match="unknown model 'mine'"):
        restorer_path("mine")


def test_without_a_home_others_ask_for_a_folder(no_home: None) -> None:
    with pytest.raises(ConfigError, match=r"no home folder .*: name a models folder"):
        models_folder()
    with pytest.raises(ConfigError, match="name a models folder"):
        restorer_path("osdface", lambda _: None)


def test_a_file_that_may_not_be_read_is_none(locked_home: Path) -> None:
    with pytest.raises(ModelError, match="no such model file"):
        restorer_path(str(locked_home / "mine.safetensors"))
