"""What pip has to install beside the packages that are here, what it must leave as it is, and how to call it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_MODULES = {"opencv-python-headless": "cv2", "pillow": "PIL"}  # others' names are their packages' with underscores
_CHOSEN_BY_USERS = ("torch",)  # its build for their GPU
_UNQUOTED = r"[\w\\/:.,+=@%~-]+"  # paths that every shell takes as they are


def python_command() -> str:
    """The Python in use, as typed in a terminal: in quotes only where it must be (PowerShell shows a quoted one).

    It is a host's or an environment's own: the `python` and `pip` on the path are often another's.
    """
    return sys.executable if re.fullmatch(_UNQUOTED, sys.executable) else f'"{sys.executable}"'


def install_command(what: str) -> str:
    """The command that installs what pip calls `what`, a name or "name>=1" in double quotes, for the Python in use.

    Environments made by uv have no pip.
    """
    if importlib.util.find_spec("pip"):
        return f"{python_command()} -m pip install {what}"
    return f"uv pip install -p {python_command()} {what}"


def is_present(module: str) -> bool:
    """Whether a module is installed. A folder left of one, as of OpenCV when one of two is uninstalled, is not."""
    spec = importlib.util.find_spec(module)
    return spec is not None and bool(spec.origin)


def has_lost_files(name: str) -> bool:
    """Whether a package is noted as installed whose module is not there: another package's uninstall took its files."""
    return _version(name) is not None and not is_present(_module(name))


def unmet_requirements(text: str) -> list[str]:
    """Those of a requirements file that are absent, too old, or too new for what else is installed, without markers.

    Too new: pip installs a single requirement at its newest version, as ComfyUI-Manager asks it to, and another one may
    take back what that brought.
    """
    from packaging.requirements import Requirement  # not the standard library's: what needs this file has it

    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    wanted = [Requirement(line) for line in lines if line]
    unmet = (one for one in wanted if one.name not in _CHOSEN_BY_USERS and _applies(one) and not _fits(one))
    return [f"{one.name}{one.specifier}" for one in unmet]  # a marker's quotes would end those of a shell


def _fits(requirement: Requirement) -> bool:
    version = _version(requirement.name)
    if not is_present(_module(requirement.name)):
        return False
    if version is None:  # another package brings the module, as opencv-python brings cv2
        return True
    return requirement.specifier.contains(version, prereleases=True) and all(
        needed.specifier.contains(here, prereleases=True)
        for needed in _needed_by(requirement.name)
        if (here := _version(needed.name)) is not None
    )


def _needed_by(name: str) -> Iterator[Requirement]:
    from packaging.requirements import Requirement

    for line in importlib.metadata.requires(name) or ():
        requirement = Requirement(line)
        if _applies(requirement):
            yield requirement


def _applies(requirement: Requirement) -> bool:
    """Whether it is for this Python and system, and for no extra."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def _module(name: str) -> str:
    return _MODULES.get(name, name.replace("-", "_"))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def pip_constraints(without: Collection[str] = ()) -> str:
    """Every installed package at its version, as constraints for pip; those of names in lower case and hyphens not."""
    found: dict[str, str] = {}
    for dist in importlib.metadata.distributions():
        name, number = dist.metadata["Name"], dist.version
        if name and number and not _is_leftover(dist):
            # The first on sys.path is the one that is imported; other spellings of its name are the same package.
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), f"{name}=={number}\n")
    return "".join(sorted(line for name, line in found.items() if name not in without))


def _is_leftover(dist: importlib.metadata.Distribution) -> bool:
    """Whether an uninstall left it behind: pip renames a folder to start with ~ before deleting it."""
    folder = getattr(dist, "_path", None)  # None for finders other than Python's own
    return folder is not None and folder.name.startswith("~")
