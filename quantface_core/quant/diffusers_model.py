"""Describe diffusers models in files by class and configuration, and rebuild them from those."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils._pytree import tree_leaves

from ..errors import ConfigError, ModelError
from .formats import formats_from_json, formats_to_json, low_bit_state
from .model_file import building, read_json

_DIFFUSERS = "diffusers."
_MODULE_FIELDS = set(vars(nn.Module()))
_MOST_LAYERS, _LARGEST = 512, 10_000_000  # in a configuration, which is not trusted


def describe(model: nn.Module) -> dict[str, str]:
    """A model's class and configuration for a file's metadata; only the class if the two would not rebuild it."""
    if (config := configuration(model)) is None:
        return {"class": f"{type(model).__module__}.{type(model).__qualname__}"}
    return {"class": f"{_DIFFUSERS}{type(model).__name__}", "config": config}


def configuration(model: nn.Module) -> str | None:
    """The configuration of a diffusers model, as JSON; None for other models, and those that it would not rebuild."""
    if _diffusers_class(type(model).__name__) is not type(model):
        return None
    table: dict[str, Any] = dict(model.config)  # type: ignore[arg-type]
    config = {key: value for key, value in table.items() if not key.startswith("_") and key != "quantization_config"}
    try:
        text = json.dumps(config)
    except TypeError:  # a value registered by hand
        return None
    return text if _is_as_configured(model, json.loads(text)) else None


def _diffusers_class(name: str) -> Any:
    """A diffusers model class by name, if it is built from a configuration: a `MultiControlNetModel` is not."""
    found, kinds = getattr(diffusers, name, None), (diffusers.ModelMixin, diffusers.ConfigMixin)
    return found if isinstance(found, type) and all(issubclass(found, kind) for kind in kinds) else None


def _is_as_configured(model: Any, config: dict[str, Any]) -> bool:
    """Whether its class and configuration would build a quantized model with the same tensors.

    Adapters add some, and other quantizers, as torchao, wrap some.
    """
    try:
        _check_config(Path(), config)
        with building(Path()), torch.device("meta"):
            built = type(model).from_config(config)
        expected, _ = low_bit_state(built, formats_from_json(formats_to_json(model), built))
    except (ConfigError, ModelError):
        return False
    held = model.state_dict()
    wrapped = any(hasattr(tensor, "__tensor_flatten__") for tensor in held.values())
    return not wrapped and {n: t.shape for n, t in expected.items()} == {n: t.shape for n, t in held.items()}


def build(path: Path, metadata: Mapping[str, str]) -> nn.Module:
    """Build the diffusers model that a file's metadata describes, on the meta device if possible. Raises ModelError."""
    name = metadata.get("class", "")
    found = _diffusers_class(name.removeprefix(_DIFFUSERS)) if name.startswith(_DIFFUSERS) else None
    if found is None or "config" not in metadata:
        raise ModelError(f"{path}: {name:.80} cannot be built from its file: use load_quantized(path, model=...)")
    config = read_json(path, metadata["config"], "configuration")
    _check_config(path, config)
    with building(path), torch.device("meta"):
        model: nn.Module = found.from_config(config)
    if _beside_state(model):
        # The constructor computes tables that no file holds, so it runs for real, now that it is known to succeed.
        with building(path), torch.random.fork_rng(devices=[]):
            with _weights_on_meta():
                model = found.from_config(config)
            if any(table.is_meta for table in _beside_state(model)):  # computed from weights
                model = found.from_config(config)
    return model


def _beside_state(model: nn.Module) -> list[Tensor]:
    """The tensors that a model holds beside those in its state: as buffers, as attributes, or in lists of these."""
    state = set(model.state_dict())
    found = [buffer for name, buffer in model.named_buffers() if name not in state]
    values = [value for module in model.modules() for key, value in vars(module).items() if key not in _MODULE_FIELDS]
    return found + [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


@contextmanager
def _weights_on_meta() -> Iterator[None]:
    """Within the block, this thread's modules keep parameters without values: a file's will replace them."""
    thread = threading.get_ident()

    def without_values(_: nn.Module, __: str, parameter: nn.Parameter | None) -> Any:
        if parameter is None or threading.get_ident() != thread:
            return None  # as it is
        return nn.Parameter(parameter.to("meta"), parameter.requires_grad)

    with register_module_parameter_registration_hook(without_values):
        yield


def _check_config(path: Path, config: Any) -> None:
    """Raise ModelError for a configuration that would take forever to build: the file is not trusted."""
    if not isinstance(config, dict):
        raise ModelError(f"{path}: its configuration is not a table")
    for key, value in config.items():
        if "theta" in key:
            continue  # the base of rotary positions, as large as it may be, is no size
        values = value if isinstance(value, list) else [value]
        most = _MOST_LAYERS if "layers" in key else _LARGEST
        if len(values) > _MOST_LAYERS or any(isinstance(v, int | float) and abs(v) > most for v in values):
            raise ModelError(f"{path}: its configuration's {key:.80} is out of bounds")
