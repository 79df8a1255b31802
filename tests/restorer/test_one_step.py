"""The one-step pipeline: its formula, seeds and sizes, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler

from quantface_core.errors import ImageError, UsageError
from quantface_core.kernels.dispatch import fast_dtype
from quantface_core.restorer import OSDFACE, OneStepRestorer
from quantface_core.restorer.one_step import alpha_bar


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1


def test_schedule_is_stable_diffusion_s() -> None:
    schedule = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
    for timestep in (0, 399, 999):
        assert alpha_bar(timestep) == pytest.approx(float(schedule[timestep]), rel=1e-5)


def test_the_pipeline_computes_the_formula(tiny: OneStepRestorer, image: torch.Tensor) -> None:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, 0)[399]
    tiny = OneStepRestorer(replace(tiny.config, feature_paths=False, residual=False)).eval().requires_grad_(False)
    latent = tiny.vae.encode(image).latent_dist.mode() * 0.5
    epsilon = tiny.unet(latent, 399, encoder_hidden_states=tiny.embedder(image)).sample
    clean = (latent.double() - (1 - kept).sqrt() * epsilon.double()) / kept.sqrt()
    expected = tiny.vae.decode(clean.float() / 0.5).sample.clamp(-1, 1)
    assert torch.allclose(tiny(image), expected, atol=1e-4)


def test_the_same_input_gives_the_same_image(tiny: OneStepRestorer, image: torch.Tensor) -> None:
    assert torch.equal(tiny(image), tiny(image))


def test_seed_samples_and_does_not_depend_on_the_batch(tiny: OneStepRestorer, image: torch.Tensor) -> None:
    sampled = tiny(image, [5, 6, 7])
    assert not torch.allclose(sampled, tiny(image), atol=1e-3)
    assert torch.equal(sampled, tiny(image, [5, 6, 7]))
    assert torch.allclose(sampled[1:2], tiny(image[1:2], [6]), atol=1e-4)


def test_any_input_size_gives_the_native_size(tiny: OneStepRestorer) -> None:
    assert tiny(torch.zeros(1, 3, 100, 100)).shape == (1, 3, 64, 64)


def test_bfloat16_keeps_the_step_in_float32(tiny: OneStepRestorer, image: torch.Tensor) -> None:
    half = OneStepRestorer(tiny.config).eval().requires_grad_(False)
    half.load_state_dict(tiny.state_dict())
    half = half.to(torch.bfloat16)
    latent = half.encode(image)
    assert latent.code.dtype == torch.bfloat16
    assert half.predict(latent, half.embedder(image.bfloat16())).code.dtype == torch.float32
    result = half(image)
    assert result.dtype == torch.float32
    assert (result - tiny(image)).abs().mean() < 0.02


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_refuses_what_is_not_finite(tiny: OneStepRestorer, image: torch.Tensor, poison: float) -> None:
    bad = image.clone()
    bad[0, 1, 2, 3] = poison
    with pytest.raises(ImageError, match="NaN or infinite"):
        tiny(bad)


def test_refuses_wrong_shapes_and_seed_counts(tiny: OneStepRestorer, image: torch.Tensor) -> None:
    with pytest.raises(ImageError, match=r"\[batch, 3, height, width\]"):
        tiny(image[0])
    with pytest.raises(UsageError, match="2 seeds for 3 images"):
        tiny(image, [1, 2])


def test_osdface_at_its_real_size_runs() -> None:
    """All 978 M parameters, random, on a face shrunk to keep the test short."""
    with torch.device("meta"):
        restorer = OneStepRestorer(replace(OSDFACE, image_size=128))
    # Bfloat16 takes half the memory, and minutes on a processor that does not have it.
    restorer = restorer.to(fast_dtype(torch.device("cpu"))).to_empty(device="cpu").eval().requires_grad_(False)
    numbers = torch.empty(1 << 16, dtype=restorer.dtype).normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
    for parameter in restorer.parameters():  # the same numbers again and again: new ones take seconds
        for part in parameter.view(-1).split(len(numbers)):
            part.copy_(numbers[: len(part)])
    assert sum(p.numel() for p in restorer.parameters()) == pytest.approx(979e6, rel=2e-3)
    assert sum(p.numel() for p in restorer.unet.parameters()) == pytest.approx(866e6, rel=1e-3)
    result = restorer(torch.zeros(1, 3, 128, 128))
    assert result.shape == (1, 3, 128, 128)
    assert result.isfinite().all()
