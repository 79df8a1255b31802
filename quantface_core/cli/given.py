"""Options that do not apply to what a command works on: rejected, instead of ignored."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..errors import UsageError


def refuse_given(arguments: argparse.Namespace, options: Sequence[argparse.Action], reason: str) -> None:
    """Raise UsageError, with the reason, naming those of the options that differ from their defaults."""
    given = [option.option_strings[0] for option in options if getattr(arguments, option.dest) != option.default]
    if given:
        raise UsageError(f"{', '.join(given)}: {reason}")
