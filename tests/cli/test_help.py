"""What `--help` prints."""

from __future__ import annotations

import re

import pytest

from quantface_core.cli.main import main


def shown(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit, match=r"^0$"):
        main([*arguments, "--help"])
    return capsys.readouterr().out


def test_every_command_s_help_fits_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    commands = re.findall(r"^    (\w+)", shown([], capsys), re.MULTILINE)
    assert len(commands) == 12
    for text in (shown(arguments, capsys) for arguments in ([], *([name] for name in commands))):
        assert [line for line in text.splitlines() if len(line) > 80] == []
