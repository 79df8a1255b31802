"""The examples: every kind of model is quantized, beats plain rounding, is saved and loaded to the same bits."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import quantface_core as qf
from quantface_core.errors import ConfigError, UsageError
from quantface_core.nn.swap import quant_layers
from quantface_core.quant.batches import call
from quantface_core.quant.output_error import tensors_of

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "examples"
PLAIN = qf.QuantConfig(scaling=False, block=1, clipping=False, rank=0, rounding="nearest")
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"examples_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@torch.no_grad()
def outputs(model: nn.Module, batches: list) -> torch.Tensor:
    return torch.cat([t.flatten() for batch in batches for t in tensors_of(call(model, batch))])


def signal_to_noise(made: torch.Tensor, exact: torch.Tensor) -> float:
    return float(10 * torch.log10(exact.square().mean() / (made - exact).square().mean()))


def quantized(build: Callable[[], nn.Module], batches: list, config: qf.QuantConfig) -> nn.Module:
    model = build()
    assert qf.quantize(model, batches, config)
    return model


@pytest.mark.parametrize(("name", "bits"), [*((name, 4) for name in NAMES), ("plain_cnn", 8)])
def test_the_method_beats_rounding_and_comes_back_to_the_bit(name: str, bits: int, tmp_path: Path) -> None:
    one = example(name)
    batches = one.batches(1)
    exact = outputs(one.build(), batches)
    ours = quantized(one.build, batches, qf.QuantConfig(bits, bits, rank=8))
    plain = quantized(one.build, batches, replace(PLAIN, weight_bits=bits, activation_bits=bits))
    made = outputs(ours, batches)
    assert signal_to_noise(made, exact) > signal_to_noise(outputs(plain, batches), exact)
    file = tmp_path / "model.safetensors"
    qf.save_quantized(ours, file)
    is_known = type(ours).__module__.startswith("diffusers.")
    loaded = qf.load_quantized(file) if is_known else qf.load_quantized(file, one.build())
    assert type(loaded) is type(ours)
    assert torch.equal(outputs(loaded, batches), made)
    packed = sum(layer.packed.numel() for layer in quant_layers(ours).values())
    weights = sum(torch.Size(layer.shape).numel() for layer in quant_layers(ours).values())
    assert packed <= weights * bits / 8 + len(quant_layers(ours))


@pytest.mark.parametrize("name", NAMES)
def test_a_refused_or_interrupted_run_leaves_the_model_as_it_was(name: str) -> None:
    one = example(name)
    model, batches = one.build().train(), one.batches(1)
    before, modules = copy.deepcopy(model.state_dict()), list(model.modules())

    def stop_at(share: float) -> Callable[[int, int], None]:
        def stop(done: int, total: int) -> None:
            if done >= share * total:
                raise KeyboardInterrupt

        return stop

    def broken(model: nn.Module, batch: object) -> object:
        call(model, batch)
        raise RuntimeError("the model's own error")

    for share in (0.01, 0.5, 1.0):
        with pytest.raises(KeyboardInterrupt):
            qf.quantize(model, batches, PLAIN, progress=stop_at(share))
    with pytest.raises(RuntimeError, match="own error"):
        qf.quantize(model, batches, forward=broken)
    with pytest.raises(UsageError, match="at least one batch"):
        qf.quantize(model, [])
    with pytest.raises(ConfigError, match="pattern"):
        qf.quantize(model, batches, include=["nowhere"])
    assert list(model.modules()) == modules
    assert all(module.training for module in modules)
    assert not any(module._forward_pre_hooks for module in modules)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_the_script_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """On one batch and without searches, which the test above includes."""
    one = example(name)
    monkeypatch.setattr(one.batches, "__defaults__", (1,))
    monkeypatch.setattr(qf, "QuantConfig", partial(qf.QuantConfig, scaling=False, clipping=False, rounding="nearest"))
    monkeypatch.chdir(tmp_path)
    one.main()
    assert capsys.readouterr().out.split()[-1] == "True"
