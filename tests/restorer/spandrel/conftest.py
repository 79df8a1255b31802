"""The three architectures, narrow, each as a published file of random weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from tests.published import ARCHITECTURES, network, slim, write


@pytest.fixture(scope="module", autouse=True)
def narrow() -> Iterator[None]:
    with slim():
        yield


@pytest.fixture(scope="module", params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def own(architecture: str, narrow: None) -> nn.Module:
    """Spandrel's own network."""
    return network(architecture)


@pytest.fixture(scope="module")
def file(architecture: str, own: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(own, architecture, tmp_path_factory.mktemp("published"))
