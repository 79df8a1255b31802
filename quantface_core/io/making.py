"""Models that are not here yet: fetched or built by a process of their own, which its caller can end at any time.

It may take an hour. Given again it goes on where it was: see `quantface fetch`.
"""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO

from ..errors import ModelError

Look = Callable[[int, str], None]
"""Called some times a second with how far it is, in percent, and what it does; what it raises ends the process."""

_ROOT = Path(__file__).parents[2]
# Not -m: the Python of ComfyUI's portable version looks neither in the working folder nor in PYTHONPATH.
# And bars are drawn for terminals alone.
_CALL = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); sys.stderr.isatty = lambda: True; "
    "from quantface_core.cli.main import main; sys.exit(main())"
)
_PERCENT = re.compile(r"(?:([^:]*): *)?(\d+)%\|")  # tqdm's
_PAUSE = 0.2  # seconds between looks


def make(name: str, look: Look) -> Path:
    """The file of a model that is fetched or built now. Raises ModelError with what the process said last."""
    said = _Said()
    command = [sys.executable, "-c", _CALL, str(_ROOT), "fetch", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8") as made:
        assert made.stdout
        assert made.stderr
        readers = [threading.Thread(target=said.listen, args=(p,), daemon=True) for p in (made.stdout, made.stderr)]
        for reader in readers:
            reader.start()
        try:
            while made.poll() is None:
                look(said.percent, said.doing)
                time.sleep(_PAUSE)
        except BaseException:
            made.terminate()
            raise
        for reader in readers:
            reader.join()
    path = Path(said.lines[-1]) if said.lines else Path()
    if made.returncode or not path.is_file():
        reason = said.lines[-1].removeprefix("quantface: ") if said.lines else f"exit status {made.returncode}"
        raise ModelError(f"model {name}: {reason}")
    return path


class _Said:
    """What a process says, for the console, and how far its progress bar is."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=20)
        self.percent = 0
        self.doing = ""

    def listen(self, stream: IO[str]) -> None:
        for line in stream:  # a bar's carriage returns end lines too: text streams know all ends
            progress = _PERCENT.search(line)
            if progress:
                self.doing, self.percent = (progress[1] or self.doing).strip(), int(progress[2])
            elif line.strip():
                self.lines.append(line.strip())
                logging.info("QuantFace: %s", line.strip())
