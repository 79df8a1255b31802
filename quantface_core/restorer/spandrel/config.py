"""Sizes of GFPGAN, RestoreFormer and CodeFormer: the arguments of spandrel's classes, checked before the call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import ConfigError

_SWITCH = (False, True)
_WIDE = range(1, 8193)
_POWERS = (32, 64, 128, 256, 512, 1024)  # pixels of a side

SIZES: dict[str, dict[str, Any]] = {
    "GFPGAN": {
        "out_size": _POWERS,
        "num_style_feat": _WIDE,
        "channel_multiplier": range(1, 5),
        "num_mlp": range(1, 17),
        "input_is_latent": _SWITCH,
        "different_w": _SWITCH,
        "narrow": (0.125, 0.25, 0.5, 1, 2),
        "sft_half": _SWITCH,
    },
    "RestoreFormer": {
        "n_embed": range(1, 1 << 16),
        "embed_dim": _WIDE,
        "ch": range(32, 1025, 32),  # group norms have 32 groups
        "out_ch": (3,),
        "ch_mult": [range(1, 33)],
        "num_res_blocks": range(1, 17),
        "attn_resolutions": [range(1, 1025)],
        "in_channels": (3,),
        "resolution": _POWERS,
        "z_channels": _WIDE,
        "double_z": _SWITCH,
        "enable_mid": _SWITCH,
        "head_size": range(1, 257),
    },
    "CodeFormer": {
        "dim_embd": _WIDE,
        "n_head": range(1, 257),
        "n_layers": range(1, 65),
        "codebook_size": range(1, 1 << 16),
        "latent_size": (256,),  # 16 x 16 positions
        "connect_list": [("16", "32", "64", "128", "256", "512")],
    },
}
"""Allowed values of each size, by architecture; in a list: the size is a tuple of up to eight such values."""

LICENCES = {
    "GFPGAN": "Apache-2.0",
    "RestoreFormer": "Apache-2.0",
    "CodeFormer": "S-Lab License 1.0: not for commercial use",
}
_MOST = 8
_CODEFORMER_SIZE = 512  # pixels; the only one its class supports


@dataclass(frozen=True)
class SpandrelConfig:
    """The architecture and sizes of one network. Raises ConfigError naming the field that is out of bounds."""

    architecture: str
    sizes: Mapping[str, Any]  # keyword arguments of spandrel's class, those in `SIZES`

    def __post_init__(self) -> None:
        known = SIZES.get(self.architecture) if isinstance(self.architecture, str) else None
        if known is None:
            raise ConfigError(f"architecture: one of {', '.join(SIZES)}, got {self.architecture!r:.60}")
        if not isinstance(self.sizes, Mapping) or set(self.sizes) != set(known):
            raise ConfigError(f"sizes: a table of {', '.join(known)}")
        for name, allowed in known.items():
            _check(f"sizes.{name}", self.sizes[name], allowed)

    @property
    def name(self) -> str:
        return self.architecture

    @property
    def image_size(self) -> int:
        size: int = self.sizes.get("out_size") or self.sizes.get("resolution") or _CODEFORMER_SIZE
        return size

    @property
    def licence(self) -> str:
        """The licence of the published weights and, for CodeFormer, also of the code that runs them."""
        return LICENCES[self.architecture]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; `from_dict` is its inverse."""
        return {"architecture": self.architecture, "sizes": dict(self.sizes)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SpandrelConfig:
        """Rebuild a config. Raises ConfigError for unknown, missing or out-of-bounds fields."""
        known = isinstance(data, Mapping) and set(data) == {"architecture", "sizes"}
        if not known or not isinstance(data["sizes"], Mapping):
            raise ConfigError("a spandrel configuration has two fields: architecture, and sizes as a table")
        return cls(data["architecture"], {key: _tuple(value) for key, value in data["sizes"].items()})


def _tuple(value: Any) -> Any:
    """JSON's lists converted back to tuples."""
    return tuple(value) if isinstance(value, list) else value


def _check(name: str, value: Any, allowed: Any) -> None:
    if isinstance(allowed, list):
        if not isinstance(value, tuple) or len(value) > _MOST:
            raise ConfigError(f"{name}: up to {_MOST} values, got {value!r:.60}")
        for one in value:
            _check(name, one, allowed[0])
    elif type(value) not in {type(one) for one in allowed} or value not in allowed:
        shown = f"from {allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else f"one of {allowed}"
        raise ConfigError(f"{name}: {shown}, got {value!r:.60}")
