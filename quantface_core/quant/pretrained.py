"""Have diffusers' `save_pretrained` write low-bit models, and its `from_pretrained` load them.

Transformers' models refuse: where a program does not know the quantizer, its `from_pretrained` would fill a
low-bit model with random weights, and only warn.
"""

from __future__ import annotations

import diffusers
from torch import nn

from ..errors import UsageError
from ..nn.interop import allow_saving
from ..nn.swap import quant_layers
from ..requirements import install_command
from .diffusers_model import configuration


def register_quantizer() -> None:
    """Make diffusers' `from_pretrained` load low-bit models that its `save_pretrained` or `push_to_hub` wrote.

    Call it once in a program. Raises UsageError for diffusers before 0.33.
    """
    if not _loads_low_bits():
        have, remedy = diffusers.__version__, install_command('"diffusers>=0.33"')
        raise UsageError(f"low-bit models in from_pretrained need diffusers 0.33 or later, not {have}: {remedy}")
    from diffusers.quantizers import auto

    from .diffusers_quantizer import LowBitConfig, LowBitQuantizer, Method

    auto.AUTO_QUANTIZER_MAPPING[Method.QUANTFACE.value] = LowBitQuantizer
    auto.AUTO_QUANTIZATION_CONFIG_MAPPING[Method.QUANTFACE.value] = LowBitConfig


def attach_quantizers(model: nn.Module) -> None:
    """Let `save_pretrained` write those diffusers models in `model`, itself or parts, that hold low-bit layers.

    Not those that their configuration would not build again, as with adapters: they refuse.
    """
    for part in model.modules():
        if quant_layers(part) and configuration(part) is not None:
            attach_quantizer(part)


def attach_quantizer(model: nn.Module) -> None:
    """Let `save_pretrained` write a low-bit diffusers model: its configuration then holds the formats of the layers.

    Of no effect on other models, and before diffusers 0.33.
    """
    if isinstance(model, diffusers.ModelMixin) and _loads_low_bits():
        from .diffusers_quantizer import LowBitConfig, LowBitQuantizer

        config = LowBitConfig.of(model)
        model.register_to_config(quantization_config=config)
        model.hf_quantizer = LowBitQuantizer(config)
        allow_saving(model)


def update_quantizers(model: nn.Module) -> None:
    """Attach them again to the parts that have one, after the formats of layers changed."""
    for part in model.modules():
        if quant_layers(part) and hasattr(part, "hf_quantizer"):
            attach_quantizer(part)


def _loads_low_bits() -> bool:
    """Whether this diffusers has quantizers, and loads them on any device."""
    return tuple(map(int, diffusers.__version__.split(".")[:2])) >= (0, 33)
