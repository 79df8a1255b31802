"""Blocks whose layers compute what is around them, against the same blocks step by step; in Triton's interpreter.

Blocks, not a model: a sum in another order makes one code in ten thousand the next one, and through many layers that
grows until it is as large as what rounding itself does.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers.models.attention_processor import Attention as MapAttention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

pytest.importorskip("triton", "3", reason="needs triton 3, which comes with torch for CUDA")
from quantface_core.kernels import reference, triton
from quantface_core.kernels.bitpack import pack
from quantface_core.kernels.quantize import per_channel_scale, quantize
from quantface_core.kernels.triton import launch
from quantface_core.nn.swap import empty_like, is_pointwise, prepare, quantizable, swap
from quantface_core.restorer import embedder
from quantface_core.restorer.attention import AttentionProcessor
from quantface_core.restorer.residual import replace_residuals
from quantface_core.restorer.transformer import replace_transformers
from quantface_core.restorer.upsample import Upsample
from quantface_core.types import LayerFormat

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def low_bits(model: nn.Module) -> nn.Module:
    """A model's layers at 8 bits, where a code that is another is hardly seen, with scales and branches of rank 4."""
    generator, layers = torch.Generator().manual_seed(0), {}
    for seed, (name, layer) in enumerate(quantizable(model).items()):
        fmt = LayerFormat(8, 8, block=16, seed=seed // 3, rank=4, per_pixel=is_pointwise(layer))
        made = layers[name] = empty_like(layer, fmt)
        weight = torch.randn(made.shape, generator=generator) * float(layer.weight.detach().std())
        scale = per_channel_scale(weight, 8)
        made.weight_scale, made.packed = scale.flatten(), pack(quantize(weight, scale, 8), 8)
        made.channel_scale = 2.0 ** torch.randint(-1, 2, made.channel_scale.shape)
        made.down.copy_(torch.randn(made.down.shape, generator=generator) * 0.1)
        made.up.copy_(torch.randn(made.up.shape, generator=generator) * 0.1)
        if layer.bias is not None:
            made.bias = layer.bias.detach().clone()
    swap(model, layers)
    return model.to(DEVICE)


def wrapped(block: nn.Module, replace: Callable[[nn.Module], None]) -> nn.Module:
    holder = nn.ModuleList([block])
    replace(holder)
    return holder[0]


def maps(channels: int, side: int = 8) -> Tensor:
    x = torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(channels))
    return x.to(DEVICE).contiguous(memory_format=torch.channels_last)


def residual(shortcut: bool) -> nn.Module:
    block = ResnetBlock2D(in_channels=32, out_channels=48 if shortcut else 32, temb_channels=64, groups=8)
    return wrapped(block, replace_residuals)


def transformer() -> nn.Module:
    model = Transformer2DModel(
        2, 16, in_channels=32, norm_num_groups=4, cross_attention_dim=48, use_linear_projection=True
    )
    made = wrapped(model, replace_transformers)
    for module in made.modules():
        if isinstance(module, MapAttention):
            module.set_processor(AttentionProcessor())
    return made


def map_attention() -> nn.Module:
    return MapAttention(
        32, heads=1, dim_head=32, norm_num_groups=8, residual_connection=True, bias=True, processor=AttentionProcessor()
    )


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(9)).to(DEVICE)


BLOCKS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], Tensor], set[str]]] = {
    "residual": (lambda: residual(False), lambda m: m(maps(32), draw(1, 64).expand(2, -1)), {"norm1", "norm2"}),
    "shortcut": (lambda: residual(True), lambda m: m(maps(32), draw(2, 64)), {"norm1", "norm2"}),
    "embedder's": (lambda: embedder.ResnetBlock(32, 64), lambda m: m(maps(32)), {"norm1", "norm2"}),
    "embedder's attention": (lambda: embedder.Attention(32), lambda m: m(maps(32)), set()),
    "attention on maps": (map_attention, lambda m: m(maps(32)), set()),
    "transformer": (
        transformer, lambda m: m(maps(32), draw(2, 5, 48))[0],
        {f"transformer_blocks.0.norm{number}" for number in (1, 2, 3)},
    ),
    "upsampled": (lambda: Upsample(nn.Conv2d(32, 32, 3, padding=1)), lambda m: m(maps(32)), set()),
}  # fmt: skip


@pytest.mark.parametrize("name", BLOCKS)
@torch.inference_mode()
def test_a_fused_block_matches_its_separate_ops(name: str) -> None:
    torch.manual_seed(0)
    make, run, norms = BLOCKS[name]
    block = low_bits(make().eval().requires_grad_(False))
    for module in block.modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    prepare(block, reference)
    expected = run(block)
    prepare(block, triton)
    called = set()
    for norm in norms:
        block.get_submodule(norm).register_forward_hook(lambda *_, norm=norm: called.add(norm))
    found = run(block)
    assert found.shape == expected.shape
    assert not called  # computed in the passes of the layers that follow
    assert float((found - expected).norm()) < 3e-3 * float(expected.norm())


@torch.inference_mode()
def test_hooks_of_fused_layers_are_called() -> None:
    """A host looks for its cancel button before every layer."""
    block = low_bits(residual(False))
    prepare(block, triton)
    called: list[str] = []
    for name in ("conv1", "conv2"):
        block.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: called.append(name))
    block(maps(32), draw(2, 64))
    assert called == ["conv1", "conv2"]


def test_launches_are_on_the_device_of_their_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton launches on the current device, which on machines with several may be another."""
    used: list[object] = []

    class Kernel:
        def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
            return lambda *_, **__: used.append("launched")

    class Chosen:
        def __init__(self, device: torch.device) -> None:
            used.append(device.index)

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    x = type("OnSecond", (), {"device": torch.device("cuda", 1)})()
    for current in (1, 0):
        monkeypatch.setattr(torch.cuda, "current_device", lambda current=current: current)
        monkeypatch.setattr(torch.cuda, "device", Chosen)
        launch.start(Kernel(), (1,), x)
    assert used == ["launched", 1, "launched"]
