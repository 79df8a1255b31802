"""A process that makes a model is ended whenever its caller wishes, and leaves nothing half written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from quantface_core.errors import ModelError
from quantface_core.pipelines import child
from quantface_core.pipelines.callbacks import PipelineCallbacks

_SLOW = """
import signal, sys, time; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from quantface_core.io.atomic import atomic_path
from quantface_core.pipelines import child, fetch

def model_path(name, callbacks):
    if {deaf}:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with atomic_path(Path(name)) as temporary:
        temporary.write_bytes(bytes(1000))
        callbacks.notify("half written")
        time.sleep(60)

fetch.model_path = model_path
sys.exit(child.main())
"""


@pytest.mark.skipif(os.name == "nt", reason="there a process is ended without a word")
@pytest.mark.parametrize("deaf", [False, True])
def test_a_cancelled_child_cleans_up_and_one_that_does_not_hear_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaf: bool
) -> None:
    monkeypatch.setattr(child, "_CALL", _SLOW.format(deaf=deaf))
    if deaf:
        monkeypatch.setattr(child, "_PATIENCE", 0.2)

    def cancel(text: str) -> None:
        assert len(list(tmp_path.iterdir())) == 1
        raise InterruptedError(text)

    with pytest.raises(InterruptedError, match="half written"):
        child.fetch_in_child(str(tmp_path / "m.safetensors"), PipelineCallbacks(notify=cancel))
    assert len(list(tmp_path.iterdir())) == deaf


def test_what_a_child_ends_with_is_told_in_any_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the system's encoding lacks it."""
    for name, value in {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(child, "_CALL", r'import sys; sys.exit("\u6a21\u578b")')
    with pytest.raises(ModelError, match="model x: 模型"):
        child.fetch_in_child("x", PipelineCallbacks())
