"""Fisher information of layers' output channels: how much the model's output depends on each direction of a layer's.

For an image with Gaussian errors it is `F = E[g g^T]`, where g is the gradient, with respect to the layer's output at
one position, of the model's output projected on a random direction (the Gauss-Newton approximation; K-FAC's second
factor). A low-rank branch should keep what is largest of a weight in this metric (`kernels/balance.py`), as in
Fisher-weighted SVD.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..nn.modes import eval_mode
from ..nn.swap import Layer
from ..runtime.autocast import without_autocast
from ..runtime.backward import graph_freed_on_error
from ..runtime.inference import without_inference_mode
from ..runtime.memory import is_out_of_memory, released_memory
from ..types import Progress, silent
from .batches import Forward
from .compensate import damped_factor
from .output_error import output_scale, tensors_of

FISHER_BATCHES = 8  # at most, for gradients: each holds many positions and channels
_NO_GRADIENT = (
    "no finite gradient of the model's output reaches a layer: low-rank branches keep the leading singular components "
    'of the weights, as with branch="svd". To use Fisher information, give a `forward` that returns the output\'s '
    "tensors and does not turn gradients off"
)
LARGEST = 2048  # outputs, at most, for a full matrix, 17 MB; a wider layer keeps only the diagonal


@without_inference_mode
@released_memory()
def output_fisher(
    model: nn.Module,
    batches: Sequence[Any],
    layers: Mapping[str, Layer],
    forward: Forward,
    progress: Progress = silent,
) -> dict[str, Tensor]:
    """The Fisher information of each layer's output channels by name, on the CPU, scaled to a mean diagonal of 1:
    [O, O] float16, or for layers wider than `LARGEST` only the diagonal, [O] float32.

    One forward and backward pass per batch; the random directions are always the same. Layers that no gradient
    reaches are absent: those before a codebook lookup, or that the output does not depend on. Warns if all are. Raises
    UsageError for a model that cannot be differentiated.
    """
    generator = torch.Generator().manual_seed(0)
    sums: dict[str, Tensor] = {}
    with eval_mode(model), _frozen(model), _gradients(layers, sums), torch.enable_grad(), graph_freed_on_error():
        for i, batch in enumerate(batches):
            progress(i, len(batches))
            try:
                outputs = [t for t in tensors_of(forward(model, batch)) if t.requires_grad and output_scale(t)]
                directions = [_drawn(t, generator) / _size(t) for t in outputs]
                if outputs:
                    torch.autograd.backward(outputs, directions)
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                with torch.no_grad():
                    forward(model, batch)  # raises the error again if it is the model's own
                raise UsageError(
                    f'{type(model).__name__} cannot be differentiated ({error!s:.200}): use branch="svd"'
                ) from error
    found = {name: _compact(total) for name, total in sums.items() if torch.isfinite(total).all() and total.any()}
    if batches and not found:
        warnings.warn(_NO_GRADIENT, stacklevel=1)
    return found


def _compact(total: Tensor) -> Tensor:
    """A matrix in half the memory: for Stable Diffusion, every layer's is held until the last layer is quantized.

    A diagonal is small, and its values can reach the number of outputs, which may exceed float16's range.
    """
    if total.ndim == 1:
        return (total / total.mean()).cpu()
    return (total / total.diagonal().mean()).half().cpu()


def metric_root(fisher: Tensor, damping: float = 0.05) -> Tensor:
    """A damped root R of the metric, `e^T F e = |R^T e|^2`: lower triangular [O, O], or diagonal [O], float32.

    The identity where the matrix cannot be factorized.
    """
    exact = fisher.double()
    if exact.ndim == 1:
        return (exact / exact.mean() + damping).sqrt().float()
    exact = exact / exact.diagonal().mean()
    factor = damped_factor(exact, damping)
    return torch.eye(len(exact), dtype=torch.float32, device=exact.device) if factor is None else factor.float()


def _drawn(like: Tensor, generator: torch.Generator) -> Tensor:
    """A random direction for an output; drawn in float32, so that torch's default dtype does not change it."""
    return torch.randn(like.shape, generator=generator, dtype=torch.float32, device="cpu").to(like)


def _size(output: Tensor) -> Tensor:
    """The size of an output's errors, so that several outputs count alike."""
    return (output_scale(output) * output.numel()).sqrt()


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Within the block, no parameter requires gradients."""
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
    """Within the block, gradients at layers' outputs add to their second moments [O, O] or [O] in `sums`."""

    def after(name: str, layer: Layer) -> Any:
        def add(gradient: Tensor) -> None:
            channels = gradient.movedim(1, -1) if isinstance(layer, nn.Conv2d) else gradient
            rows = channels.reshape(-1, layer.weight.shape[0]).float()
            with without_autocast(rows.device):
                moments = rows.square().sum(0) if rows.shape[1] > LARGEST else rows.t() @ rows
            sums[name] = sums[name] + moments if name in sums else moments

        def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            if not torch.is_grad_enabled():
                return output
            if not output.requires_grad:
                # The graph starts here: with a clone, not a leaf, so that the model may still modify it in place.
                output = output.detach().requires_grad_().clone()
            output.register_hook(add)
            return output

        return hook

    with ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_hook(after(name, layer)))
        yield
