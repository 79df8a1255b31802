"""Annotations of the public names, as frameworks that build forms and services from them resolve them."""

from __future__ import annotations

import inspect
import typing

import pytest

import quantface_core

_CALLABLE = [name for name in quantface_core.__all__ if callable(getattr(quantface_core, name))]


@pytest.mark.parametrize("name", _CALLABLE)
def test_they_are_found_at_run_time(name: str) -> None:
    public = getattr(quantface_core, name)
    typing.get_type_hints(public.__init__ if inspect.isclass(public) else public)
