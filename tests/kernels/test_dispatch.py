"""Which backend computes, and what is told where none of the fast ones can."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from quantface_core.errors import UsageError
from quantface_core.kernels import dispatch, reference
from quantface_core.kernels.backend import NAMES, Backend
from quantface_core.kernels.dispatch import (
    BACKENDS,
    auto_dtype,
    backend_choices,
    backend_name,
    choose_backend,
    fast_dtype,
    preferred_backend,
    register_backend,
)
from tests.kernels.backends import CPU, GPU, linear_spec, low_bit_weight


def test_backends_have_the_names_that_users_choose_from() -> None:
    assert tuple(BACKENDS) == NAMES
    assert backend_choices() == ("auto", *NAMES)


def test_backends_are_chosen_by_name_environment_and_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_backend(torch.device("meta")) is reference
    assert choose_backend(CPU, "reference") is reference
    monkeypatch.setenv("QUANTFACE_BACKEND", "reference")
    assert choose_backend(CPU) is reference
    with pytest.raises(UsageError, match="unknown backend 'tpu'"):
        choose_backend(CPU, "tpu")
    with pytest.raises(UsageError, match="onednn cannot run here: it runs on the CPU"):
        choose_backend(torch.device("meta"), "onednn")


def test_a_registered_backend_is_chosen_only_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUANTFACE_BACKEND", raising=False)
    monkeypatch.setattr(dispatch, "BACKENDS", dict(BACKENDS))
    mine, before = ModuleType("mine"), choose_backend(CPU)
    with pytest.raises(UsageError, match="'mine' has no Linear, Conv2d, unavailable, supports"):
        register_backend("mine", mine)
    vars(mine).update(Linear=reference.Linear, Conv2d=lambda weight, bits, clip: None, supports=lambda w, a: True)
    mine.unavailable = "never"
    with pytest.raises(UsageError, match="'mine' takes other arguments in Conv2d, unavailable: see"):
        register_backend("mine", mine)
    vars(mine).update({name: getattr(reference, name) for name in ("Linear", "Conv2d", "unavailable", "supports")})
    register_backend("mine", mine)
    assert choose_backend(CPU) is before
    assert choose_backend(CPU, "mine") is preferred_backend(CPU, "mine") is mine
    monkeypatch.setenv("QUANTFACE_BACKEND", "mine")
    assert choose_backend(CPU) is mine
    assert backend_name(mine) == "mine"
    monkeypatch.delenv("QUANTFACE_BACKEND")
    assert preferred_backend(CPU, "another process's") is before
    for nameless in (3, ""):
        with pytest.raises(UsageError, match="a backend's name is text"):
            register_backend(nameless, mine)  # type: ignore[arg-type]
    for taken, message in {"reference": r"is of quantface_core\.kernels\.reference: ", "auto": "auto is no"}.items():
        with pytest.raises(UsageError, match=message):
            register_backend(taken, mine)
    with pytest.raises(UsageError, match=r"use auto, .*, mine"):
        choose_backend(CPU, "tpu")


def described(module: str, kind: str) -> Backend:
    """A backend as a module, as a class, or as an object that has a class of its own for linears."""
    parts = {name: getattr(reference, name) for name in ("Conv2d", "supports", "unavailable")}
    linear = type("Linear", (reference.Linear,), {"__module__": module})
    if kind == "module":
        (made := ModuleType(module)).__dict__.update(parts, Linear=linear)
        return made
    if kind == "class":
        functions = {name: staticmethod(parts[name]) for name in ("supports", "unavailable")}
        return type("Mine", (), {**parts, **functions, "Linear": linear, "__module__": module})
    return SimpleNamespace(Linear=linear, **parts)


@pytest.mark.parametrize("kind", ["module", "class", "object"])
def test_a_cell_that_runs_again_replaces_its_backend(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "BACKENDS", dict(BACKENDS))
    for _ in range(2):
        register_backend("mine", again := described("__main__", kind))
    assert choose_backend(CPU, "mine") is again
    with pytest.raises(UsageError, match=r"'mine' is of __main__.*: register that of other.* under another name"):
        register_backend("mine", described("other", kind))
    assert choose_backend(CPU, "mine") is again


def test_an_unregistered_backend_is_refused() -> None:
    with pytest.raises(UsageError, match="backend mine is not registered: call register_backend first"):
        backend_name(ModuleType("mine"))


def test_a_gpu_without_triton_warns_that_layers_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BACKENDS["triton"], "unavailable", lambda device: "it needs the package triton")
    with pytest.warns(UserWarning, match="slow here, without Triton: it needs the package triton"):
        assert preferred_backend(GPU, "triton") in (BACKENDS["half"], reference)
    assert preferred_backend(CPU, "reference") is reference


@pytest.mark.parametrize(
    ("name", "native"),
    [("gfx803", False), ("gfx90c", False), ("gfx1031", False), ("gfx908", True), ("gfx90a", True), ("gfx1100", True)],
)
def test_amd_s_older_gpus_have_no_bfloat16(name: str, native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.4")
    properties = SimpleNamespace(gcnArchName=f"{name}:sramecc+:xnack-")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    assert fast_dtype(GPU) == (torch.bfloat16 if native else torch.float32)


@pytest.mark.parametrize("fast", [torch.bfloat16, torch.float32])
def test_auto_precision_is_the_fast_dtype_for_low_bit_models_alone(
    fast: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "fast_dtype", lambda _: fast)
    assert auto_dtype(CPU, low_bit=True) == fast
    assert auto_dtype(CPU, low_bit=False) == torch.float32


def test_the_example_for_contributors_computes_what_the_reference_does(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n((?:(?!```).)*qf\.register_backend.*?)```", page, re.DOTALL)
    monkeypatch.setattr(dispatch, "BACKENDS", dict(BACKENDS))
    exec(example, {})
    mine = choose_backend(CPU, "mine")
    x, bias = torch.randn(3, 16, generator=torch.Generator().manual_seed(0)), torch.linspace(-1, 1, 8)
    for more, dtype in product(({}, {"bias": bias}), (torch.float32, torch.bfloat16, torch.float16)):
        spec = linear_spec(low_bit_weight((8, 16), 4, 0), 4, 0.9, **more)
        assert torch.equal(mine.Linear(spec)(x.to(dtype)), reference.Linear(spec)(x.to(dtype)))
