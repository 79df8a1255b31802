"""A model that is not here yet: a local Hub has it, and the catalogue in the models folder names it `far`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.io.local_hub import LocalHub

_CATALOGUE = """
[restorers.far]
file = "far.safetensors"
repo = "someone/faces"
licence = "Apache-2.0"
"""


@contextmanager
def far_model(monkeypatch: pytest.MonkeyPatch, content: bytes, models: Path, home: Path) -> Iterator[LocalHub]:
    """The Hub that has the model; the environment, other processes' too, names it, and keeps its cache at home."""
    hub = LocalHub()
    for name, value in {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home)}.items():
        monkeypatch.setenv(name, value)
    hub.files["someone/faces/far.safetensors"] = content
    models.mkdir(exist_ok=True)
    (models / "catalogue.toml").write_text(_CATALOGUE)
    yield hub
    hub.close()
