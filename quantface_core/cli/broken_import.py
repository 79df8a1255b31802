"""Packages that are installed and do not work, such as those built for another torch or NumPy."""

from __future__ import annotations

import traceback

from ..errors import one_line

_OWN = ("__main__", __name__.partition(".")[0])


def explain_broken_import(error: BaseException) -> str | None:
    """Which installed package an import failed in, why, and what to do, as one line; None for errors of another kind.

    The error may have been raised again in other words, as diffusers and transformers do: what counts is the first.
    """
    while error.__cause__:
        error = error.__cause__
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not isinstance(error, ImportError):  # it need not be an import's: one runs a module's own code
        frames = [frame for frame in frames if frame.f_code.co_name == "<module>"]
    packages = [str(frame.f_globals.get("__name__")).partition(".")[0] for frame in frames]
    package = next((name for name in reversed(packages) if name != "importlib"), "__main__")
    if package in _OWN:
        return None
    return f"{package} does not work here ({one_line(error)}): update it, or uninstall it if nothing needs it"
