"""The embedder: its codes and the visual prompt."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quantface_core.restorer import OSDFACE, OneStepRestorer
from quantface_core.restorer.embedder import Embedder, first_distinct


def first_distinct_by_hand(codes: list[int], distances: list[float], count: int) -> list[int]:
    """Positions of the first distinct codes in order of distance, as the formula reads."""
    seen: set[int] = set()
    chosen = []
    for position in sorted(range(len(codes)), key=lambda i: distances[i]):
        if codes[position] not in seen and len(chosen) < count:
            seen.add(codes[position])
            chosen.append(position)
    return chosen


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8)), min_size=1, max_size=30), st.integers(1, 10))
def test_first_distinct_matches_the_formula(votes: list[tuple[int, int]], count: int) -> None:
    codes, distances = [v[0] for v in votes], [v[1] / 4 for v in votes]
    positions, found = first_distinct(torch.tensor([codes]), torch.tensor([distances]), count)
    assert positions[0][found[0]].tolist() == first_distinct_by_hand(codes, distances, count)


def test_layout_is_the_published_one() -> None:
    with torch.device("meta"):
        embedder = Embedder(OSDFACE.embedder)
    vqvae = {n: p for n, p in embedder.state_dict().items() if not n.startswith("projection")}
    assert round(sum(p.numel() for p in vqvae.values()) / 1e6, 2) == 29.17
    # The published file also holds weight and bias of three second norms that its code never reads.
    assert len(vqvae) == 173 - 6
    for name in ("encoder.conv_in.weight", "encoder.down.5.attn.1.proj_out.bias", "encoder.mid.attn_1.q.weight"):
        assert name in vqvae
    assert embedder.projection.conv1.weight.shape == (256, 512, 1)
    assert embedder.projection.conv2.weight.shape == (1024, 256, 1)


def test_fewer_codes_than_tokens_leaves_zero_rows_before_the_projection(tiny: OneStepRestorer) -> None:
    embedder = tiny.embedder
    positions = embedder.codebook.weight[3].expand(1, 256, -1)  # everyone votes for code 3
    prompt = embedder.prompt(positions)
    rows = F.pad(embedder.codebook.weight[3][None, None], (0, 0, 0, embedder.config.tokens - 1))
    assert torch.equal(prompt, embedder.projection(rows))


def test_prompt_matches_the_formula(tiny: OneStepRestorer) -> None:
    """Written from docs/method.md, section 1, in float64 and with plain loops."""
    embedder = tiny.embedder
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    resized = F.interpolate(image, size=(32, 32), mode="bilinear", align_corners=False)
    features = embedder.quant_conv(embedder.encoder((resized - 0.5) / 0.5)).double()
    book = embedder.codebook.weight.double()
    expected = []
    for feature in features.flatten(2).transpose(1, 2):
        distances = ((feature[:, None] - book[None]) ** 2).sum(2)
        nearest = distances.min(1)
        chosen = first_distinct_by_hand(nearest.indices.tolist(), nearest.values.tolist(), embedder.config.tokens)
        rows = [book[nearest.indices[position]] for position in chosen]
        rows += [torch.zeros_like(book[0])] * (embedder.config.tokens - len(rows))
        expected.append(silu_twice(embedder, torch.stack(rows)))
    assert torch.allclose(embedder(image).double(), torch.stack(expected), atol=1e-4)


def silu_twice(embedder: Embedder, rows: Tensor) -> Tensor:
    for conv in (embedder.projection.conv1, embedder.projection.conv2):
        rows = F.silu(rows @ conv.weight.double()[:, :, 0].t() + conv.bias.double())
    return rows


def test_gradients_pass_through_the_code_choice(tiny: OneStepRestorer) -> None:
    embedder = Embedder(tiny.config.embedder).train()
    embedder(torch.randn(1, 3, 32, 32)).sum().backward()
    assert embedder.encoder.conv_in.weight.grad.abs().sum() > 0
    assert embedder.codebook.weight.grad.abs().sum() > 0
