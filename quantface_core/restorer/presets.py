"""The architectures of OSDFace and of the bundled model."""

from __future__ import annotations

from .configs import EmbedderConfig, RestorerConfig

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
