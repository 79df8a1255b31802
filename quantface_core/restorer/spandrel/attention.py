"""Multi-head attention with separate linear projections, which `nn.MultiheadAttention` fuses into one parameter."""

from __future__ import annotations

from torch import Tensor, nn

from ...nn.qlinear import project
from ..attention import attention


class SplitAttention(nn.Module):
    """Replacement for torch's `MultiheadAttention` (batch second, no masks) with the same weights."""

    def __init__(self, joined: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = joined.num_heads
        weights, biases = joined.in_proj_weight.chunk(3), joined.in_proj_bias.chunk(3)
        self.to_q, self.to_k, self.to_v = (_linear(*pair) for pair in zip(weights, biases, strict=True))
        self.to_out = _linear(joined.out_proj.weight, joined.out_proj.bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: None = None, key_padding_mask: None = None
    ) -> tuple[Tensor, None]:
        """Query [N, B, C], key and value [M, B, C] -> ([N, B, C], None instead of attention weights)."""
        if query is key:
            q, k = project((self.to_q, self.to_k), query.transpose(0, 1))
        else:
            q, k = self.to_q(query.transpose(0, 1)), self.to_k(key.transpose(0, 1))
        v = self.to_v(value.transpose(0, 1))
        q, k, v = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        return self.to_out(attention(q, k, v).transpose(1, 2).flatten(2)).transpose(0, 1), None


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight, layer.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
    return layer
