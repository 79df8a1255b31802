"""How a model is quantized for a table's row: our method, its rivals, and both with parts exchanged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from quantface_core.types import Bits, Budget, RestorerQuantConfig


@dataclass(frozen=True)
class Method:
    """Settings, patches of the library's constants, and what follows quantization."""

    settings: RestorerQuantConfig = field(default_factory=RestorerQuantConfig)
    patches: Mapping[str, Any] = field(default_factory=dict)  # of library constants, for what has no setting
    trained: str = ""  # "", "distillation branch" or "both"
    budget: Budget | None = None  # bits are allocated within it; None = uniform

    def at(self, bits: str) -> Method:
        """The method at other widths, such as w4a6."""
        weight_bits, activation_bits = Bits.parse(bits)
        settings = replace(self.settings, weight_bits=weight_bits, activation_bits=activation_bits)
        return replace(self, settings=settings)

    @contextmanager
    def patched(self) -> Iterator[None]:
        """Context manager: within it, the library's constants are the method's."""
        with ExitStack() as patches:
            for target, value in self.patches.items():
                patches.enter_context(patch(target, value))
            yield


PLAIN = RestorerQuantConfig(
    scaling=False,
    block=1,
    search_rotation=False,
    search_zero_point=False,
    clipping=False,
    rank=0,
    rounding="nearest",
    branch="svd",
)
OURS = "ours, untrained"
RECIPE = replace(PLAIN, scaling=True, rank=16, branch_bits=16)
_GPTQ = {"quantface_core.quant.compensate._STRENGTHS": ()}  # feedback only, without the ridge regression
_WHOLE_WIDTH = 8192  # a rotation over all channels where their number has a Hadamard matrix
_SEARCHED = replace(RECIPE, clipping=True, search_zero_point=True, rounding="compensated")
_AS_OURS = replace(_SEARCHED, rank=RestorerQuantConfig.rank, branch_bits=RestorerQuantConfig.branch_bits)
METHODS = {
    "MaxMin rounding": Method(PLAIN),
    "scaling": Method(replace(PLAIN, scaling=True)),
    "rotation": Method(replace(PLAIN, block=64)),
    "scaling + rotation": Method(replace(PLAIN, scaling=True, block=64)),
    "rotation of all channels + clips + GPTQ (QuaRot's recipe)": Method(
        replace(PLAIN, block=_WHOLE_WIDTH, clipping=True, rounding="compensated"), _GPTQ
    ),
    "SVD branch + scaling (SVDQuant's recipe)": Method(RECIPE),
    "the same with GPTQ, as its authors have it": Method(replace(RECIPE, rounding="compensated"), _GPTQ),
    "the same with GPTQ and our searches for clips and zero points": Method(_SEARCHED, _GPTQ),
    "the same with rank 32 in 8 bits, as ours has": Method(_AS_OURS, _GPTQ),
    "the same with our rounding and these searches": Method(_SEARCHED),
    "ours, without the search for clips": Method(RestorerQuantConfig(clipping=False)),
    "ours, rounded to nearest": Method(RestorerQuantConfig(rounding="nearest")),
    "ours, GPTQ": Method(patches=_GPTQ),
    OURS: Method(),
}


def _no_signs(channels: int, seed: int) -> Tensor:
    return torch.ones(channels, dtype=torch.float64)


ABLATION = {
    OURS: Method(),
    "no rotation": Method(RestorerQuantConfig(block=1)),
    "every layer rotated, signs drawn once": Method(RestorerQuantConfig(search_rotation=False)),
    "blocks of 16": Method(RestorerQuantConfig(block=16)),
    "blocks of 32": Method(RestorerQuantConfig(block=32)),
    "blocks up to 256": Method(RestorerQuantConfig(block=256)),
    "no random signs": Method(patches={"quantface_core.kernels.hadamard.random_signs": _no_signs}),
    "symmetric codes": Method(RestorerQuantConfig(search_zero_point=False)),
    "no clipping": Method(RestorerQuantConfig(clipping=False)),
    "no scaling": Method(RestorerQuantConfig(scaling=False)),
    "exponent 0.5 everywhere": Method(patches={"quantface_core.quant.search.EXPONENTS": (0.5,)}),
    "rounded to nearest": Method(RestorerQuantConfig(rounding="nearest")),
    "GPTQ alone": Method(patches=_GPTQ),
    "branch by SVD alone": Method(RestorerQuantConfig(branch="svd")),
    "no branch": Method(RestorerQuantConfig(rank=0)),
    "branch of rank 16": Method(RestorerQuantConfig(rank=16)),
    "branch in 16 bits": Method(RestorerQuantConfig(branch_bits=16)),
}
