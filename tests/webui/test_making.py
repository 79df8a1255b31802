"""Models that are not here yet: got by a process of their own while the page's bar moves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.io.far_model import far_model
from tests.io.local_hub import LocalHub
from tests.webui.conftest import ROOT


@pytest.fixture
def hub(
    script: Any, webui: SimpleNamespace, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalHub]:
    """Has the tiny restorer."""
    with far_model(monkeypatch, tiny_file.read_bytes(), webui.models, tmp_path / "hf") as served:
        yield served


def test_interrupt_ends_a_download_and_asking_again_finishes_it(
    script: Any, webui: SimpleNamespace, hub: LocalHub, astronaut: np.ndarray, expected: np.ndarray
) -> None:
    from quantface_webui import host, restore
    from quantface_webui.settings import Settings

    assert "far (fetch)" in restore.choices()
    far = Settings(model="far (fetch)", strength=1.0)

    def slow(_: int) -> None:
        webui.state.interrupted = True
        time.sleep(1)

    hub.watch = slow
    with pytest.raises(host.Interrupted):
        restore.restore(astronaut, far)
    assert not (webui.models / "far.safetensors").exists()
    assert (webui.state.sampling_step, webui.state.job_no) == (0, 1)
    assert webui.state.told[0][1:] == (100, "QuantFace: far: getting it")
    hub.watch = lambda _: None
    webui.state.interrupted = False
    assert np.array_equal(restore.restore(astronaut, far).pixels, expected)
    assert "far (local)" in restore.choices()


def test_what_cannot_be_fetched_says_why(
    script: Any, webui: SimpleNamespace, hub: LocalHub, astronaut: np.ndarray
) -> None:
    from quantface_webui import generation

    hub.files.clear()
    webui.opts.data["quantface_model"] = "far"
    assert generation.restore_or_original(astronaut) is astronaut
    assert webui.reports[0][0].startswith("QuantFace: model far: ")
    assert "someone/faces" in webui.reports[0][0]


def test_the_process_is_the_extension_s_own() -> None:
    """Whatever else is called quantface_core where the host runs."""
    from quantface_core.pipelines import child

    assert child._ROOT == ROOT
