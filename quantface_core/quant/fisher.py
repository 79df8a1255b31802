"""How much a model's output depends on every direction of a layer's: the Fisher information of its output channels.

Of a picture with Gaussian errors it is `F = E[g g^T]`, with g the gradient, by the layer's output at one place, of the
model's output projected on a random direction (Gauss and Newton's approximation; the second factor of K-FAC). What a
low-rank branch should keep of a weight is what is largest by it (`kernels/balance.py`), as in Fisher-weighted SVD.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..nn.swap import Layer
from ..runtime.backward import graph_freed_on_error
from ..runtime.inference import without_inference_mode
from ..runtime.memory import released_memory
from .batches import Forward, Progress, eval_mode, output_scale, tensors_of
from .compensate import damped_factor

FISHER_BATCHES = 8  # that gradients are taken of, at most: places and channels are many in each
LARGEST = 2048  # outputs whose matrix is kept, 17 MB; of a wider layer its diagonal is


@without_inference_mode
@released_memory()
def output_fisher(
    model: nn.Module,
    batches: Sequence[Any],
    layers: Mapping[str, Layer],
    forward: Forward,
    progress: Progress | None = None,
    seed: int = 0,
) -> dict[str, Tensor]:
    """The Fisher information of each layer's output channels, by name, on the processor and with a diagonal of mean 1:
    [O, O] float16, or of layers wider than `LARGEST` the diagonal alone, [O] float32.

    One run forth and back a batch; the directions are drawn with `seed`. Layers that no gradient reaches are absent:
    before a choice of codes, or where the output does not depend on them. Raises UsageError for a model that cannot
    be differentiated.
    """
    generator = torch.Generator().manual_seed(seed)
    sums: dict[str, Tensor] = {}
    with eval_mode(model), _frozen(model), _gradients(layers, sums), torch.enable_grad(), graph_freed_on_error():
        for i, batch in enumerate(batches):
            if progress:
                progress(i, len(batches))
            try:
                outputs = [t for t in tensors_of(forward(model, batch)) if t.requires_grad and output_scale(t)]
                directions = [_drawn(t, generator) / _size(t) for t in outputs]
                if outputs:
                    torch.autograd.backward(outputs, directions)
            except RuntimeError as error:
                if "out of memory" in str(error).lower():
                    raise
                with torch.no_grad():
                    forward(model, batch)  # raises the model's own error, if it is one
                raise UsageError(
                    f'{type(model).__name__} cannot be differentiated ({error!s:.200}): give branch="svd"'
                ) from error
    return {name: _compact(total) for name, total in sums.items() if torch.isfinite(total).all() and total.any()}


def _compact(total: Tensor) -> Tensor:
    """A matrix in half the memory: of a Stable Diffusion's layers all are kept until the last is quantized.

    A diagonal is small and may be of more outputs than float16 counts to.
    """
    if total.ndim == 1:
        return (total / total.mean()).cpu()
    return (total / total.diagonal().mean()).half().cpu()


def metric_root(fisher: Tensor, damping: float = 0.05) -> Tensor:
    """A root R of the metric, `e^T F e = |R^T e|^2`, lower triangular [O, O], or diagonal [O], float32; damped."""
    exact = fisher.double()
    if exact.ndim == 1:
        return (exact / exact.mean() + damping).sqrt().float()
    exact = exact / exact.diagonal().mean()
    factor = damped_factor(exact, damping)
    return torch.eye(len(exact), dtype=torch.float32) if factor is None else factor.float()


def _drawn(like: Tensor, generator: torch.Generator) -> Tensor:
    """A random direction of an output; drawn in float32, so that it does not follow from torch's default dtype."""
    return torch.randn(like.shape, generator=generator, dtype=torch.float32).to(like)


def _size(output: Tensor) -> Tensor:
    """Of an output's errors, so that several outputs count alike."""
    return (output_scale(output) * output.numel()).sqrt()


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """While it lasts, no parameter takes a gradient."""
    learning = [p for p in model.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


@contextmanager
def _gradients(layers: Mapping[str, Layer], sums: dict[str, Tensor]) -> Iterator[None]:
    """While it lasts, gradients by layers' outputs add to their second moments."""

    def after(name: str, layer: Layer) -> Any:
        def add(gradient: Tensor) -> None:
            channels = gradient.movedim(1, -1) if isinstance(layer, nn.Conv2d) else gradient
            rows = channels.reshape(-1, layer.weight.shape[0]).float()
            moments = rows.square().sum(0) if rows.shape[1] > LARGEST else rows.t() @ rows
            sums[name] = sums[name] + moments if name in sums else moments

        def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            if not torch.is_grad_enabled():
                return output
            if not output.requires_grad:
                # Where gradients begin: a tensor of its own, that the model may still change in place.
                output = output.detach().requires_grad_().clone()
            output.register_hook(add)
            return output

        return hook

    handles = [layer.register_forward_hook(after(name, layer)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
