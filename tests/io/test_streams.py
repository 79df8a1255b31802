"""Devices, pipes and FIFOs are written to, and stay what they are."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from quantface_core.errors import UsageError
from quantface_core.io import streams
from quantface_core.io.atomic import atomic_path, write_text
from quantface_core.io.output_checks import check_writable
from quantface_core.io.streams import is_stream

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither")

WRITE = """
import sys
from pathlib import Path
from quantface_core.io.atomic import write_text
from quantface_core.io.output_checks import check_writable
print("before")
check_writable(Path(sys.argv[1]), "--json")
write_text(Path(sys.argv[1]), "{}\\n")
print("after")
"""


def test_a_fifo_s_reader_gets_all_and_it_stays(tmp_path: Path) -> None:
    fifo, link, got = tmp_path / "fifo.json", tmp_path / "link.json", list[bytes]()
    os.mkfifo(fifo)
    link.symlink_to(fifo)
    for path in (fifo, link):
        reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()), daemon=True)
        reader.start()
        check_writable(path, "--json")
        with atomic_path(path) as temporary:
            assert temporary.suffix == ".json"
            temporary.write_bytes(b"x" * 100_000)
        reader.join(10)
        assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert got == [b"x" * 100_000] * 2
    assert sorted(tmp_path.iterdir()) == [fifo, link]


def test_a_device_stays_one(tmp_path: Path) -> None:
    null = Path(os.devnull)
    if os.geteuid() == 0:  # who could replace this machine's own
        null = tmp_path / "null"
        try:
            os.mknod(null, 0o666 | stat.S_IFCHR, Path(os.devnull).stat().st_rdev)
        except OSError:
            pytest.skip("this system makes none")
    check_writable(null, "--json")
    write_text(null, "text")
    assert stat.S_ISCHR(null.stat().st_mode)
    assert list(tmp_path.iterdir()) in ([], [null])


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_written_through_on_failure(tmp_path: Path, failure: type[BaseException]) -> None:
    """The FIFO has no reader: opening it would wait for ever."""
    os.mkfifo(tmp_path / "fifo")

    def write() -> None:
        with atomic_path(tmp_path / "fifo") as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(failure):
        write()


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="this system has no such name")
def test_standard_output_is_written_to_in_order(tmp_path: Path) -> None:
    """Also where it goes to a file, of which nothing that it held is lost."""
    command = [sys.executable, "-c", WRITE, "/dev/stdout"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "before\n{}\nafter\n"
    log = tmp_path / "log.txt"
    log.write_text("old\n")
    with log.open("a") as file:
        subprocess.run(command, stdout=file, check=True)
    assert log.read_text() == "old\nbefore\n{}\nafter\n"


def test_only_what_cannot_be_replaced_is_a_stream(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not is_stream(tmp_path / "file")
    assert not is_stream(tmp_path)
    assert not is_stream(tmp_path / "missing")


def test_a_device_without_a_number_is_not_taken_for_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where NUL, the console and every pipe have none."""
    stat_of, null = os.stat, os.stat_result([stat.S_IFCHR, *[0] * 9])
    monkeypatch.setattr(os, "stat", lambda path, **how: null if str(path) == "NUL" else stat_of(path, **how))
    monkeypatch.setattr(os, "fstat", lambda _: null)
    assert is_stream(Path("NUL"))
    assert streams._descriptor(Path("NUL")) is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write to anything")
def test_a_closed_stream_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o400)
    with pytest.raises(UsageError, match=r"^--json .*fifo is not writable"):
        check_writable(tmp_path / "fifo", "--json")
