"""How an image's faces are restored, as the Extras tab, the settings page, the API and infotext state it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from quantface_core.errors import UsageError
from quantface_core.io.model_menu import strip_mark
from quantface_core.options import RestoreOptions, check_options, parse_faces
from quantface_core.types import DEFAULT_RESTORER

AUTO: Literal["auto"] = "auto"
CODEFORMERS = 0.5  # CodeFormer's own fidelity
_PREFIX = "QuantFace "  # of our names in infotext
_FIELD = re.compile(_PREFIX + r'([\w ]+): ("(?:\\.|[^"\\])*"|[^,\n]*)')


@dataclass(frozen=True)
class Settings:
    """Every default is the library's own; all fields are checked on creation (UsageError)."""

    model: str = DEFAULT_RESTORER  # a name or file that the menu offers
    visibility: float = 1.0  # opacity of the restored image over the original, 0 to 1
    faces: str = "all"  # "all", "largest", or positions such as "0,2-4", from the left
    strength: float | Literal["auto"] = AUTO  # 0 = the original face, 1 = fully restored; "auto" = decided per pixel
    color: str = RestoreOptions.color  # how restored faces are matched to the image's colours, in options.COLORS
    min_size: float = RestoreOptions.min_size  # pixels; smaller faces are left alone
    min_confidence: float = RestoreOptions.min_confidence  # 0 to 1; faces the detector is less sure of are left alone
    feather: float = RestoreOptions.feather  # 0 to 1: how softly a face fades into the image
    grain: float = RestoreOptions.grain  # 0 to 1: how much of a face's noise stays
    seed: int | None = None  # of a sampled latent; None = the same image gives the same result
    fidelity: float = CODEFORMERS  # CodeFormer only: 0 = looks best, 1 = nearest to the image

    def __post_init__(self) -> None:
        if not 0 <= self.visibility <= 1:
            raise UsageError(f"visibility must be between 0 and 1, got {self.visibility}")
        check_options(self.options())

    def options(self) -> RestoreOptions:
        """The library's options. Raises UsageError for invalid faces."""
        return RestoreOptions(
            faces=parse_faces(self.faces),
            min_size=self.min_size,
            min_confidence=self.min_confidence,
            strength=self.strength,
            color=self.color,
            feather=self.feather,
            grain=self.grain,
            seed=self.seed,
            fidelity=None if self.fidelity == CODEFORMERS else self.fidelity,
        )

    def infotext(self) -> dict[str, str]:
        """The model, and everything that differs from the defaults, under the names that `read_infotext` knows."""
        usual, ours = asdict(Settings()), {**asdict(self), "model": strip_mark(self.model)}
        chosen = {name: value for name, value in ours.items() if name == "model" or value != usual[name]}
        return {infotext_name(name): f"{value}" for name, value in chosen.items()}


NAMES = tuple(field.name for field in fields(Settings))


def read_settings(values: Mapping[str, Any]) -> Settings:
    """Settings from the values of menus, JSON or text: None means the default, numbers may be strings.

    Raises UsageError naming the field, also for an unknown name.
    """
    unknown = sorted(set(values) - set(NAMES))
    if unknown:
        raise UsageError(f"unknown setting {unknown[0]!r}: choose from {', '.join(NAMES)}")
    return Settings(**{name: _read(name, value) for name, value in values.items() if value is not None})


def read_infotext(text: str) -> Settings | None:
    """The settings in an image's text; None if it has none of ours. Raises UsageError."""
    values = {name.replace(" ", "_"): value.strip('" ') for name, value in _FIELD.findall(text)}
    if "model" not in values:
        return None
    return read_settings({name: value for name, value in values.items() if name in NAMES})


def infotext_name(field: str) -> str:
    """The name of a field in infotext."""
    return _PREFIX + field.replace("_", " ")


def _read(name: str, value: Any) -> Any:
    try:
        if isinstance(value, bool):
            raise TypeError
        if name == "faces":
            return ",".join(str(_whole(v)) for v in value) if isinstance(value, list | tuple) else str(value).strip()
        if name == "seed":
            return None if value in ("", "None") or _whole(value) == -1 else _whole(value)
        if name in ("model", "color"):
            return str(value)
        return AUTO if name == "strength" and value == AUTO else float(value)
    except (TypeError, ValueError, OverflowError):
        kind = {"faces": "all, largest or positions", "seed": "a whole number", "strength": "auto or a number"}
        raise UsageError(f"{name} must be {kind.get(name, 'a number')}, got {value!r:.60}") from None


def _whole(value: Any) -> int:
    """A whole number from JSON or text, 2.0 too. Raises TypeError, ValueError, OverflowError."""
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError
    return int(value)
