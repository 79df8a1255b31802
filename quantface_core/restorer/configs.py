"""Configurations of the one-step restorers: frozen dataclasses that fully describe an architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from ..errors import ConfigError
from .limits import check_limits


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
        check_limits(self)

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


OSDFACE = RestorerConfig(
    name="osdface",
    image_size=512,
    timestep=399,
    unet={
        "sample_size": 64,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
    vae={
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "sample_size": 512,
        "scaling_factor": 0.18215,
    },
    embedder=EmbedderConfig(
        image_size=512,
        base_channels=64,
        channel_multipliers=(1, 2, 2, 2, 4, 8),
        blocks_per_level=2,
        attention_resolution=16,
        latent_channels=512,
        codes=1024,
        code_channels=512,
        tokens=77,
        prompt_channels=1024,
    ),
)

QUANTFACE_MINI = RestorerConfig(
    name="quantface-mini",
    image_size=256,
    # Trained from scratch, it corrects the latent only slightly: at 399 the UNet would first have to learn to
    # reproduce its whole input, amplitude included, through group norms that remove amplitude.
    timestep=99,
    unet={
        "sample_size": 64,
        "in_channels": 8,
        "out_channels": 8,
        "block_out_channels": (64, 128, 192),
        "layers_per_block": 2,
        "down_block_types": ("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("UpBlock2D",) * 3,
        "cross_attention_dim": 128,
        "attention_head_dim": (1, 2, 3),
        "use_linear_projection": True,
    },
    vae={
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 8,
        "block_out_channels": (32, 64, 64),
        "layers_per_block": 1,
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "sample_size": 256,
        "scaling_factor": 1.0,
        "mid_block_add_attention": False,
        "norm_num_groups": 8,
    },
    embedder=EmbedderConfig(
        image_size=128,
        base_channels=32,
        channel_multipliers=(1, 2, 4, 4),
        blocks_per_level=1,
        attention_resolution=16,
        latent_channels=128,
        codes=256,
        code_channels=128,
        tokens=32,
        prompt_channels=128,
    ),
    feature_paths=True,
    residual=True,
)
