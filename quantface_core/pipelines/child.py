"""Fetch or build a model in a process of its own, which the caller can end at any time.

It may take an hour, in a host whose interpreter must stay free. Ended and called again, it resumes. The child reports
its progress, and finally the result, as lines of JSON on a pipe that nothing else writes to.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from ..errors import ModelError, QuantFaceError
from .callbacks import PipelineCallbacks, StageProgress

_ROOT = Path(__file__).parents[2]
# Not -m: the Python of ComfyUI's portable version ignores the working folder and PYTHONPATH.
_CALL = "import sys; sys.path.insert(0, sys.argv[1]); from quantface_core.pipelines.child import main; sys.exit(main())"
_PAUSE = 0.2  # seconds between polls
_PATIENCE = 10.0  # seconds that a terminated child has to remove half-written files, which may be gigabytes


def fetch_in_child(name: str, callbacks: PipelineCallbacks) -> Path:
    """Return what `model_path` returns, while calling the callbacks several times a second.

    Raises ModelError, and what the callbacks raise.
    """
    # By -X: the portable version's Python reads no PYTHONUTF8, without which its text is in a code page on Windows.
    command = [sys.executable, "-X", "utf8", "-c", _CALL, str(_ROOT), name]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    with subprocess.Popen(command, errors="replace", **pipes) as child:
        received = _Received(child)
        try:
            while child.poll() is None:
                received.forward(callbacks)
                time.sleep(_PAUSE)
        except BaseException:
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(_PATIENCE)
            child.kill()
            raise
        received.drain()
    received.forward(callbacks)
    path = Path(received.result.get("path", ""))
    if child.returncode or not path.is_file():
        last = received.output[-1] if received.output else f"exit status {child.returncode}"
        raise ModelError(f"model {name}: {received.result.get('error', last)}")
    return path


class _Received:
    """What a child has sent so far: threads read it, and the caller's own thread forwards it."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self.progress = StageProgress("getting it", 0, 100)
        self.messages: deque[str] = deque()
        self.output: deque[str] = deque(maxlen=20)  # lines of text, from whatever runs in the child
        self.result: Mapping[str, str] = {}
        pairs = ((child.stdout, self._read_events), (child.stderr, self._read_output))
        self._threads = [threading.Thread(target=read, args=(pipe,), daemon=True) for pipe, read in pairs]
        for thread in self._threads:
            thread.start()

    def forward(self, callbacks: PipelineCallbacks) -> None:
        callbacks.check()
        while self.messages:
            callbacks.notify(self.messages.popleft())
        callbacks.progress(self.progress)

    def drain(self) -> None:
        for thread in self._threads:
            thread.join()

    def _read_events(self, pipe: IO[str]) -> None:
        for line in pipe:
            event = json.loads(line)
            if "progress" in event:
                self.progress = StageProgress(**event["progress"])
            elif "message" in event:
                self.messages.append(event["message"])
            else:
                self.result = event

    def _read_output(self, pipe: IO[str]) -> None:
        for line in pipe:
            if line.strip():
                self.output.append(line.strip())
                logging.info("QuantFace: %s", line.strip())


def main() -> int:
    """The child: its arguments are the folder of this package and the model's name. Returns the exit status."""
    from ..runtime.threads import spin_briefly

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as an exception, so that half-written files are removed
    spin_briefly()  # before torch loads
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what anything else prints goes to stderr

    def send(**event: Any) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    from .fetch import model_path

    callbacks = PipelineCallbacks(
        progress=lambda progress: send(progress=asdict(progress)), notify=lambda text: send(message=text)
    )
    try:
        send(path=str(model_path(sys.argv[2], callbacks)))
    except QuantFaceError as error:
        send(error=str(error))
        return 1
    return 0
