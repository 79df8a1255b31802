"""Low-bit layers in diffusers' own folders: what `save_pretrained` writes and `from_pretrained` loads.

Tensors are those of a QuantFace file (docs/format.md). The formats of the layers, which are in such a file's header,
are the `quantization_config` in `config.json`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, NoReturn

import torch
from diffusers.quantizers.base import DiffusersQuantizer
from diffusers.quantizers.quantization_config import QuantizationConfigMixin
from torch import Tensor, nn

from ..errors import ModelError, UsageError, first_few
from ..nn.interop import allow_saving
from ..nn.qlayer import QuantLayer
from ..nn.swap import quant_layers
from ..requirements import install_command, is_present
from .formats import (
    VERSIONS,
    add_low_bit_layers,
    check_values,
    check_version,
    formats_from_json,
    formats_to_json,
    version_needed,
)


class Method(str, Enum):
    """The name by which `config.json` says that a model is in low bits."""

    QUANTFACE = "quantface"


@dataclass
class LowBitConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """The `quantization_config` of a low-bit model: `version` and `layers` as in a file's header (docs/format.md)."""

    quant_method: str = Method.QUANTFACE
    version: str = VERSIONS[0]
    layers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.quant_method = Method(self.quant_method)  # whose `value` diffusers reads
        check_version(self.version, "config.json")

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> LowBitConfig:
        """The configuration in `config.json`; other keys are of no effect. Raises ModelError for a newer version."""
        return cls(**{one.name: config_dict[one.name] for one in fields(cls) if one.name in config_dict})

    @classmethod
    def of(cls, model: nn.Module) -> LowBitConfig:
        """That of a model in memory."""
        return cls(version=version_needed(model), layers=json.loads(formats_to_json(model)))


class LowBitQuantizer(DiffusersQuantizer):  # type: ignore[misc]
    """Loads a model that was saved in low bits; one in full precision is quantized by `quantize`, on batches.

    Raises UsageError without accelerate, or for weights offloaded to disk; ConfigError or ModelError for a folder that
    is damaged.
    """

    requires_calibration = True
    use_keep_in_fp32_modules = True  # diffusers keeps the same parts in float32 as of the original
    quantization_config: LowBitConfig

    def validate_environment(self, *args: Any, device_map: Any = None, **kwargs: Any) -> None:
        """Refuse what cannot be loaded, before anything is fetched."""
        if not is_present("accelerate"):
            raise UsageError(f"low-bit models in from_pretrained need accelerate: {install_command('accelerate')}")
        if isinstance(device_map, dict) and "disk" in device_map.values():
            raise UsageError("low-bit layers cannot be offloaded to disk: leave that out of device_map")

    def _process_model_before_weight_loading(
        self, model: nn.Module, keep_in_fp32_modules: Any = (), **kwargs: Any
    ) -> None:
        formats = formats_from_json(json.dumps(self.quantization_config.layers), model)
        add_low_bit_layers(model, formats)
        for name, layer in quant_layers(model).items():
            if set(name.split(".")) & set(keep_in_fp32_modules or ()):
                layer.follow_dtype(torch.float32)

    def check_if_quantized_param(
        self, model: nn.Module, param_value: Tensor, param_name: str, *args: Any, **kwargs: Any
    ) -> bool:
        """Whether a tensor is a low-bit layer's; all others are loaded by diffusers."""
        return isinstance(model.get_submodule(param_name.rpartition(".")[0]), QuantLayer)

    def create_quantized_param(
        self,
        model: nn.Module,
        param_value: Tensor,
        param_name: str,
        target_device: torch.device,
        state_dict: dict[str, Tensor],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Give a low-bit layer one of its tensors, as stored: diffusers has cast the one that it passes."""
        owner, _, key = param_name.rpartition(".")
        layer, stored = model.get_submodule(owner), state_dict[param_name]
        if stored.dtype != (expected := layer.get_buffer(key).dtype):
            raise ModelError(f"{param_name} is {stored.dtype}, expected {expected}")
        # Copied: overwriting a memory-mapped file would change a running model's weights.
        layer.load_state_dict({key: stored.to(target_device, copy=True)}, strict=False, assign=True)

    def check_quantized_param_shape(self, param_name: str, expected: Tensor, found: Tensor) -> None:
        """Raise ModelError: diffusers calls this where shapes differ."""
        raise ModelError(f"{param_name} has shape {list(found.shape)}, expected {list(expected.shape)}")

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> None:
        layers, kind = quant_layers(model).items(), type(model).__name__
        tensors = {f"{name}.{key}": tensor for name, layer in layers for key, tensor in layer.named_buffers()}
        if missing := [name for name, tensor in tensors.items() if tensor.is_meta]:
            raise ModelError(f"{kind}: tensors missing: {first_few(missing)}")
        check_values(tensors, fixed=tensors, exact=tensors, source=kind)
        model.is_quantized = False  # diffusers would refuse to cast the other weights, which low-bit layers follow
        model.requires_grad_(False)
        allow_saving(model)

    def get_state_dict_and_metadata(self, state_dict: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """The state to write. Raises UsageError for layers that `config.json` does not describe as they are."""
        metadata = getattr(state_dict, "_metadata", {})
        held = {name: own["format"] for name, own in metadata.items() if "format" in own}
        described = self.quantization_config.layers
        if others := [name for name, table in described.items() if not table.items() <= held.get(name, {}).items()]:
            raise UsageError(f"changed after quantizing, as by adapters (unload them first): {first_few(others)}")
        return state_dict, {}

    def _dequantize(self, model: nn.Module) -> NoReturn:
        raise UsageError("low-bit layers are not put back into full precision: load the original")

    @property
    def is_serializable(self) -> bool:
        """Whether `save_pretrained` can write it."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Whether adapters may be trained on it."""
        return True
