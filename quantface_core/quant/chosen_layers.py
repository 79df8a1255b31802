"""Which layers are meant by patterns of their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from ..errors import ConfigError, first_few

Patterns = Sequence[str] | None


def chosen_names(
    names: Sequence[str], include: Patterns, exclude: Patterns, others: Mapping[str, str] | None = None
) -> set[str]:
    """The names that match a pattern of `include` (None = all) and none of `exclude`.

    A pattern matches a layer, or a module that contains layers: `vae.decoder` or `*.attn1`. `others` are layers that
    can only be excluded, with what they are. Raises ConfigError for what is no list of patterns, and where a pattern
    matches nothing or no layer is left.
    """
    others = others or {}
    for given in (include, exclude):
        for pattern in _checked(given):
            other = next((name for name in others if _fits(name, pattern)), None)
            if any(_fits(name, pattern) for name in names) or (other and given is exclude):
                continue
            if other:
                raise ConfigError(f"{other} is {others[other]}, which stays in full precision")
            raise ConfigError(f"no layer matches the pattern {pattern!r}; names look like {first_few(names)}")
    chosen = matching(names, include, exclude)
    if names and not chosen:
        raise ConfigError("the patterns of include and exclude leave no layer")
    return chosen


def matching(names: Iterable[str], include: Patterns, exclude: Patterns) -> set[str]:
    """The names that match, of patterns that are known to be right."""
    included = {n for n in names if include is None or any(_fits(n, pattern) for pattern in include)}
    return {n for n in included if not any(_fits(n, pattern) for pattern in exclude or ())}


def _checked(given: Patterns) -> Sequence[str]:
    if isinstance(given, str):
        raise ConfigError(f"include and exclude are lists of patterns: give [{given!r}]")
    for pattern in given or ():
        if not isinstance(pattern, str):
            raise ConfigError(f"patterns are of names, such as 'decoder' or '*.attn1', got {pattern!r:.40}")
    return given or ()


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")
