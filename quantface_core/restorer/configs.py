"""Configurations of the one-step restorers: frozen dataclasses that fully describe an architecture.

A configuration read from a file decides what is built, and is not trusted: every field is checked for its type and
range before any module is created. A malformed or malicious file raises an error instead of exhausting the machine's
memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from ..errors import ConfigError

_LEVELS = 8  # at most; more than any published UNet has
_WIDEST = 8192  # channels at most

# Tuples: a file may hold anything, also what cannot be looked up in a set.
_UNET_BLOCKS = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D", "DownBlock2D", "UpBlock2D")
_VAE_BLOCKS = ("DownEncoderBlock2D", "UpDecoderBlock2D")

_COMMON = {"in_channels", "out_channels", "sample_size", "layers_per_block", "norm_num_groups"}
_UNET_NUMBERS = _COMMON | {"cross_attention_dim"}
_VAE_NUMBERS = _COMMON | {"latent_channels"}


@dataclass(frozen=True)
class EmbedderConfig:
    """Sizes of the visual representation embedder (docs/method.md, section 1)."""

    image_size: int  # pixels; the input is resized to this square
    base_channels: int  # of the first level; a multiple of 32 (group norms have 32 groups)
    channel_multipliers: tuple[int, ...]  # channels of each level / base_channels; resolution halves between levels
    blocks_per_level: int
    attention_resolution: int  # the level of this side length in positions has attention after every block
    latent_channels: int  # of the encoder's output
    codes: int  # entries of the codebook
    code_channels: int  # channels of a code
    tokens: int  # prompt length
    prompt_channels: int  # channels of the prompt = the UNet's cross_attention_dim


@dataclass(frozen=True)
class RestorerConfig:
    """The architecture and timestep of a one-step restorer. Raises ConfigError when a field is out of bounds."""

    name: str
    image_size: int  # pixels; side of the native square face crop
    timestep: int  # of the one step, 0 to 999
    unet: Mapping[str, Any]  # keyword arguments of diffusers.UNet2DConditionModel
    vae: Mapping[str, Any]  # keyword arguments of diffusers.AutoencoderKL
    embedder: EmbedderConfig
    feature_paths: bool = False  # the decoder also receives the encoder's maps, see feature_paths.py
    residual: bool = False  # the decoder predicts the change to the input image, not the image

    def __post_init__(self) -> None:
        _check_limits(self)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; `from_dict` is its inverse. Switches that are off are omitted.

        So releases that predate a switch can still read files that do not use it, and such files do not change.
        """
        return {name: value for name, value in asdict(self).items() if value is not False}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RestorerConfig:
        """Rebuild a config. Raises ConfigError for unknown, missing or out-of-bounds fields."""
        data = dict(_known_fields(cls, data))
        embedder = EmbedderConfig(**_tuples(_known_fields(EmbedderConfig, data["embedder"])))
        return cls(**{**data, "unet": _tuples(data["unet"]), "vae": _tuples(data["vae"]), "embedder": embedder})


def _tuples(table: Any) -> Any:
    """JSON's lists converted back to tuples, so that a config read back equals the one written."""
    if not isinstance(table, Mapping):
        return table  # rejected, by name, when the config checks itself
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


def _known_fields(cls: type, data: object) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise ConfigError(f"{cls.__name__} must be a table of fields, got {type(data).__name__}")
    expected = {f.name for f in fields(cls)}
    needed = {f.name for f in fields(cls) if f.default is MISSING}
    unknown, missing = sorted(set(data) - expected), sorted(needed - set(data))
    if unknown or missing:
        raise ConfigError(f"{cls.__name__}: unknown fields {unknown}, missing fields {missing}")
    return data


def _check_limits(config: RestorerConfig) -> None:
    """Raise ConfigError naming the first field that is out of bounds or inconsistent with another."""
    if not isinstance(config.name, str) or not 0 < len(config.name) <= 100:
        raise ConfigError("name: 1 to 100 characters")
    _whole("image_size", config.image_size, 32, 4096)
    _whole("timestep", config.timestep, 0, 999)
    _check_part("unet", config.unet, _UNET_NUMBERS, _UNET_BLOCKS, {"use_linear_projection"})
    _check_part("vae", config.vae, _VAE_NUMBERS, _VAE_BLOCKS, {"mid_block_add_attention"})
    for name, value in (("feature_paths", config.feature_paths), ("residual", config.residual)):
        if not isinstance(value, bool):
            raise ConfigError(f"{name}: true or false, got {value!r:.60}")
    _check_embedder(config)
    _check_fit(config)


def _whole(name: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ConfigError(f"{name}: a whole number from {low} to {high}, got {value!r:.60}")


def _wholes(name: str, values: object, low: int, high: int) -> None:
    if not isinstance(values, list | tuple) or not 0 < len(values) <= _LEVELS:
        raise ConfigError(f"{name}: a list of 1 to {_LEVELS} whole numbers, got {values!r:.60}")
    for value in values:
        _whole(name, value, low, high)


def _check_part(part: str, table: object, numbers: set[str], blocks: tuple[str, ...], switches: set[str]) -> None:
    if not isinstance(table, Mapping):
        raise ConfigError(f"{part}: a table of fields, got {type(table).__name__}")
    for key, value in table.items():
        name = f"{part}.{key}"
        if key in numbers:
            _whole(name, value, 1, _WIDEST if key != "layers_per_block" else 16)
        elif key in ("block_out_channels", "attention_head_dim"):
            _wholes(name, value, 1, _WIDEST)
        elif key in ("down_block_types", "up_block_types"):
            known = isinstance(value, list | tuple) and all(kind in blocks for kind in value)
            if not known or not 0 < len(value) <= _LEVELS:
                raise ConfigError(f"{name}: a list of {', '.join(blocks)}, got {value!r:.60}")
        elif key in switches:
            if not isinstance(value, bool):
                raise ConfigError(f"{name}: true or false, got {value!r:.60}")
        elif key == "scaling_factor":
            if not isinstance(value, int | float) or not 1e-4 <= value <= 1e4:
                raise ConfigError(f"{name}: a number from 0.0001 to 10000, got {value!r:.60}")
        else:
            raise ConfigError(f"{name}: not a field this version knows")


def _check_embedder(config: RestorerConfig) -> None:
    embedder = config.embedder
    _whole("embedder.image_size", embedder.image_size, 16, 4096)
    _whole("embedder.base_channels", embedder.base_channels, 32, 1024)
    _wholes("embedder.channel_multipliers", embedder.channel_multipliers, 1, 32)
    _whole("embedder.blocks_per_level", embedder.blocks_per_level, 1, 16)
    _whole("embedder.attention_resolution", embedder.attention_resolution, 0, 256)
    _whole("embedder.codes", embedder.codes, 1, 1 << 16)
    _whole("embedder.tokens", embedder.tokens, 1, 4096)
    for name in ("latent_channels", "code_channels", "prompt_channels"):
        _whole(f"embedder.{name}", getattr(embedder, name), 2, _WIDEST)
    if embedder.base_channels % 32:
        raise ConfigError("embedder.base_channels: a multiple of 32, because group norms have 32 groups")


def _check_fit(config: RestorerConfig) -> None:
    """Check that the channels of tensors passed between parts agree. Raises ConfigError."""
    pairs: list[tuple[str, Any, str, Any]] = [
        ("unet.in_channels", config.unet.get("in_channels"), "vae.latent_channels", config.vae.get("latent_channels")),
        (
            "unet.out_channels",
            config.unet.get("out_channels"),
            "vae.latent_channels",
            config.vae.get("latent_channels"),
        ),
        (
            "unet.cross_attention_dim",
            config.unet.get("cross_attention_dim"),
            "embedder.prompt_channels",
            config.embedder.prompt_channels,
        ),
    ]
    for name, value, other, expected in pairs:
        if value != expected or value is None:
            raise ConfigError(f"{name} is {value}, but {other} is {expected}: they must be equal")
