"""Arguments that the library parses itself: its refusals in argparse's way, which names the option."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

from ..errors import QuantFaceError

T = TypeVar("T")


def parsed(parse: Callable[[str], T]) -> Callable[[str], T]:
    """An argument's `type`: `parse`, whose QuantFaceErrors are usage errors of that argument."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except QuantFaceError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert
