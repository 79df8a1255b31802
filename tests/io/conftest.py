"""A local Hub that the real client talks to, and OSDFace's originals at narrow widths."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import Tensor

from quantface_core.restorer import OneStepRestorer
from tests.io.local_hub import LocalHub
from tests.random_originals import NARROW, random_lora, random_restorer, write_originals


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    """The client asks this Hub, keeps nothing between tests, and does not sleep between attempts."""
    served = LocalHub()
    monkeypatch.setenv("HF_ENDPOINT", served.url)
    monkeypatch.setenv("QUANTFACE_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    # The client hands on whole chunks, 10 MB each: what a cut leaves of one is fetched again.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1024)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True, raising=False)  # not in every 0.30
    monkeypatch.setattr(time, "sleep", lambda _: None)
    yield served
    served.close()


@pytest.fixture(scope="session")
def narrow() -> OneStepRestorer:
    return random_restorer(NARROW)


@pytest.fixture(scope="session")
def lora(narrow: OneStepRestorer) -> dict[str, Tensor]:
    return random_lora(narrow)


@pytest.fixture(scope="session")
def originals(narrow: OneStepRestorer, lora: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the two repositories as the Hub would."""
    folder = tmp_path_factory.mktemp("originals")
    write_originals(narrow, lora, folder)
    return folder
