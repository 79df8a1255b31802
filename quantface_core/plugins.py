"""What installed packages add to the library by an entry point, in every process that needs it.

A package names a function in its metadata, under the group `quantface.plugins`. It is called with the library, by which
it registers restorers and backends: ComfyUI's nodes have a copy of the library with another name, whose classes are not
those of `import quantface_core`.
"""

from __future__ import annotations

import sys
import warnings
from importlib.metadata import EntryPoint, entry_points
from threading import RLock

from .errors import one_line

GROUP = "quantface.plugins"

_loading = RLock()  # reentrant: a plugin may itself ask for a name
_asked = False


def load_plugins() -> None:
    """Call the plugins of all installed packages, once in a process: when a name is asked for that nobody knows.

    One that fails is left out, with a warning that names its package.
    """
    global _asked
    with _loading:
        if _asked:
            return
        _asked = True
        for plugin in entry_points(group=GROUP):
            try:
                plugin.load()(sys.modules[__package__])
            except Exception as error:  # of any class: it is another's code
                reason = f"{type(error).__name__}: {one_line(error)}"
                warnings.warn(f"the plugin {plugin.name} of {_package(plugin)} is left out: {reason}", stacklevel=2)


def _package(plugin: EntryPoint) -> str:
    """The name that pip knows a plugin's package by; that of its module where its metadata states none."""
    return (plugin.dist and plugin.dist.metadata["Name"]) or plugin.module
