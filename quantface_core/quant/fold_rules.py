"""Find where channels pass only through linear maps in diffusers' blocks (docs/method.md, section 2).

A rule looks at one module and yields the paths through it whose precondition holds. Where that is not certain it yields
none: a missed path costs a pass over the activations, a wrong one breaks the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeGuard

from diffusers.models import attention_processor as processors
from diffusers.models.activations import GEGLU
from diffusers.models.attention import BasicTransformerBlock, FeedForward
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn

from ..nn.fold import FoldPath
from ..nn.marks import GatesFirstHalf, PlainAttention, PlainBlock
from ..nn.qlayer import QuantLayer
from ..nn.swap import is_patched

FoldRule = Callable[[nn.Module], Iterator[FoldPath]]

_ALL = slice(None)
# Softmax attention over the outputs of to_q, to_k and to_v, and nothing else.
_PLAIN = tuple(
    getattr(processors, name)
    for name in ("AttnProcessor", "AttnProcessor2_0", "SlicedAttnProcessor", "XFormersAttnProcessor")
    if hasattr(processors, name)
)


def fold_paths(model: nn.Module, rules: Sequence[FoldRule]) -> list[FoldPath]:
    """All paths that the rules find, in the model's order, except those that share a producer or a consumer."""
    paths = [path for module in model.modules() for rule in rules for path in rule(module)]
    producers = Counter(path.producer for path in paths)
    consumers = Counter(consumer for path in paths for consumer in path.consumers)
    return [
        p for p in paths if producers[p.producer] == 1 and all(consumers[consumer] == 1 for consumer in p.consumers)
    ]


def norm_path(norm: nn.Module | None, *consumers: nn.Module | None) -> Iterator[FoldPath]:
    """From a norm to all its consumers. Precondition: a weight of its own, one value per channel, and no hooks."""
    weight = norm._parameters.get("weight") if isinstance(norm, nn.LayerNorm | nn.GroupNorm) else None
    if norm is not None and weight is not None and weight.ndim == 1 and not is_patched(norm):
        yield from _path(norm, _ALL, len(weight), *consumers)


def layer_path(
    producer: nn.Module | None, *consumers: nn.Module | None, linear: int | None = None
) -> Iterator[FoldPath]:
    """From a layer, or its first `linear` outputs, to all consumers. Precondition: both ends are linear layers."""
    if _is_linear(producer):
        outputs = _shape(producer)[0] if linear is None else linear
        yield from _path(producer, _ALL if linear is None else slice(linear), outputs, *consumers)


def _path(producer: nn.Module, rows: slice, outputs: int, *consumers: nn.Module | None) -> Iterator[FoldPath]:
    linear = [consumer for consumer in consumers if _is_linear(consumer)]
    if len(linear) == len(consumers) and all(_shape(consumer)[1] == outputs for consumer in linear):
        yield FoldPath(producer, rows, linear)


def _computes_as(module: nn.Module | None, *kinds: type[nn.Module]) -> bool:
    """Whether a module runs the forward of one of these classes; another might use something inside it a second time.

    A hook may change whatever goes in or comes out.
    """
    forward = getattr(type(module), "forward", None)
    return module is not None and any(forward is kind.forward for kind in kinds) and not is_patched(module)


def _is_linear(module: nn.Module | None) -> TypeGuard[nn.Module]:
    """Whether a module is a low-bit layer, or a plain one whose weight is a parameter of its own."""
    if isinstance(module, QuantLayer):
        return not is_patched(module)
    own = module is not None and isinstance(module._parameters.get("weight"), nn.Parameter)
    return own and _computes_as(module, nn.Linear, nn.Conv2d)


def _shape(layer: nn.Module) -> Sequence[int]:
    return layer.shape if isinstance(layer, QuantLayer) else layer.get_parameter("weight").shape


def transformer_block(module: nn.Module) -> Iterator[FoldPath]:
    """Norms to their consumers, if neither modulated nor followed by positions; GEGLU's value half to its consumer."""
    if not isinstance(module, BasicTransformerBlock) or not _reads_as_its_class(module):
        return
    first, second = module.attn1, module.attn2
    if module.norm_type == "layer_norm" and module.pos_embed is None:
        if _reads_directly(first) and not first.is_cross_attention:
            yield from norm_path(module.norm1, first.to_q, first.to_k, first.to_v)
        if second is not None and _reads_directly(second) and _needs_context(second):
            yield from norm_path(module.norm2, second.to_q)
        if _computes_as(module.ff, FeedForward) and not is_patched(module.ff.net[0]):
            yield from norm_path(module.norm3, getattr(module.ff.net[0], "proj", None))
    yield from _gated(module.ff)


def _reads_as_its_class(block: BasicTransformerBlock) -> bool:
    # Not inherited: a subclass may replace the forward.
    says_so = PlainBlock in type(block).__bases__ and not is_patched(block)
    return says_so or _computes_as(block, BasicTransformerBlock)


def _gated(block: FeedForward) -> Iterator[FoldPath]:
    """GEGLU's value half to its consumer. Precondition: a gate; any other activation in between is not linear."""
    gate, down = block.net[0], block.net[2]
    gates = _computes_as(gate, GEGLU) or isinstance(gate, GatesFirstHalf)
    if gates and not is_patched(gate) and _is_linear(down) and _computes_as(block, FeedForward):
        yield from layer_path(gate.proj, down, linear=_shape(down)[1])


def attention(module: nn.Module) -> Iterator[FoldPath]:
    """Values to the output layer, which reads weighted means of them. Precondition: a processor that adds nothing.

    Not where values are a context's: an IP-Adapter, which may come later, adds its own to these (`context_values`).
    """
    if not isinstance(module, processors.Attention) or not _is_plain(module):
        return
    if not module.is_cross_attention:
        yield from _values(module)
    if module.group_norm is not None and not module.is_cross_attention:
        yield from norm_path(module.group_norm, module.to_q, module.to_k, module.to_v)


def context_values(module: nn.Module) -> Iterator[FoldPath]:
    """The same where values are a context's, for models that nothing is added to later."""
    if isinstance(module, processors.Attention) and _is_plain(module) and module.is_cross_attention:
        yield from _values(module)


def _values(attn: processors.Attention) -> Iterator[FoldPath]:
    if attn.to_out is not None:
        yield from layer_path(attn.to_v, attn.to_out[0])


def transformer_2d(module: Any) -> Iterator[FoldPath]:
    """Norm to input projection. Precondition: the block's input is a feature map, not patches or classes."""
    if type(module) is Transformer2DModel and _computes_as(module, Transformer2DModel) and module.is_input_continuous:
        yield from norm_path(module.norm, module.proj_in)


DIFFUSERS: tuple[FoldRule, ...] = (transformer_block, transformer_2d, attention)


def _is_plain(attn: processors.Attention) -> bool:
    known = type(attn.processor) in _PLAIN or isinstance(attn.processor, PlainAttention)
    more = getattr(attn, "added_kv_proj_dim", None) is not None or getattr(attn, "fused_projections", False)
    return known and not more and _computes_as(attn, processors.Attention)


def _needs_context(attn: processors.Attention) -> bool:
    """Whether keys and values always read another input than queries: with equal widths a context may be omitted."""
    return attn.is_cross_attention and attn.cross_attention_dim != attn.query_dim


def _reads_directly(attn: processors.Attention) -> bool:
    """Whether an attention's layers are the only consumers of its input, and read it unchanged."""
    alone = attn.group_norm is None and attn.spatial_norm is None and not attn.residual_connection
    return _is_plain(attn) and alone
