"""QD-LoRA on a tiny restorer: it comes nearer to its teacher, end to end and by blocks, and fails without a trace."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from quantface_core.errors import ImageError, QuantFaceError, UsageError
from quantface_core.nn.replace import replace_by_name
from quantface_core.nn.swap import quant_layers
from quantface_core.restorer import OneStepRestorer
from quantface_core.stages.distill import distill, distill_blocks
from quantface_core.stages.quantize import calibrate_restorer, quantize_restorer
from quantface_core.train.trainer import Trainer
from quantface_core.train.training import TrainerCallbacks
from quantface_core.types import FLOAT_BRANCH
from tests.conftest import FAST
from tests.stages.distilling import SETTINGS, SHORT, TRAINER, likeness, same, stored


def test_pictures_come_nearer_to_the_teachers(tiny: OneStepRestorer, low: OneStepRestorer, faces: Tensor) -> None:
    before, integers = likeness(low, tiny, faces[8:]), stored(low)
    shown: list[tuple[int, tuple[int, ...]]] = []
    callbacks = TrainerCallbacks(
        on_validation_images=lambda step, pictures: shown.append((step, tuple(pictures.shape)))
    )
    report = distill(low, tiny, faces[:8], faces[8:], SETTINGS, callbacks)
    after = likeness(low, tiny, faces[8:])
    assert after > before + 1
    assert len(report.losses) == 20
    assert [step for step, _ in report.scores] == [0, 10, 20]
    # What training saw rounded in float is what the integers compute, but for codes that fall to the other side: they
    # move so small a network by up to 0.13 dB either way, from seed to seed and with the number of threads.
    assert after == pytest.approx(max(score for _, score in report.scores), abs=0.25)
    assert shown == [(step, (4, 3, 3, 64, 64)) for step in (0, 10, 20)]
    now = stored(low)
    assert all(torch.equal(now[n], t) for n, t in integers.items() if n.endswith((".packed", ".weight_scale")))
    ranks = {layer.format.rank for layer in quant_layers(low).values()}
    assert ranks == {0, 8}  # the branches of both adapters as one
    assert not low.training


def test_a_stopped_run_goes_on_to_the_same_weights(tiny: OneStepRestorer, low: OneStepRestorer, faces: Tensor) -> None:
    whole, state = copy.deepcopy(low), dict[str, Tensor]()
    distill(whole, tiny, faces[:8], faces[8:], SHORT)

    def stop(trainer: Trainer) -> None:
        state.update(trainer.state())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill(low, tiny, faces[:8], faces[8:], SHORT, TrainerCallbacks(on_save=stop))
    report = distill(
        low, tiny, faces[:8], faces[8:], SHORT, TrainerCallbacks(on_start=lambda trainer: trainer.resume(state))
    )
    assert len(report.losses) == 4
    assert same(stored(low), stored(whole))


@pytest.mark.parametrize("mode", ["end-to-end", "blocks"])
def test_an_interrupt_leaves_the_restorer_as_it_was(
    mode: str, tiny: OneStepRestorer, low: OneStepRestorer, faces: Tensor
) -> None:
    before, picture = stored(low), low(faces[:1])
    steps = []

    def interrupt(_: Trainer) -> None:
        steps.append(1)
        if len(steps) == 3:  # in blocks mode, of two steps each, in the second block
            raise KeyboardInterrupt

    settings, callbacks = (
        replace(SHORT, trainer=replace(SHORT.trainer, steps=2 if mode == "blocks" else 4)),
        TrainerCallbacks(on_step=interrupt),
    )
    run = partial(distill_blocks, low, tiny, faces[:8], settings, callbacks)
    if mode == "end-to-end":
        run = partial(distill, low, tiny, faces[:8], faces[8:], settings, callbacks)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert same(stored(low), before)
    assert torch.equal(low(faces[:1]), picture)
    assert not low.training


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("blocks", [False, True])
def test_it_trains_on_a_gpu(blocks: bool, tiny: OneStepRestorer, low: OneStepRestorer, faces: Tensor) -> None:
    before, teacher = likeness(low, tiny, faces[8:]), copy.deepcopy(tiny).to("cuda")
    low.to("cuda")
    settings = replace(SETTINGS, trainer=replace(TRAINER, steps=12, learning_rate=1e-3), learn_clips=True)
    if blocks:
        distill_blocks(low, teacher, faces[:8], settings)
    else:
        distill(low, teacher, faces[:8], faces[8:], settings)
    assert {t.device.type for t in stored(low).values()} == {"cuda"}
    assert likeness(low.to("cpu"), tiny, faces[8:]) > before


def branches_in_floats(model: OneStepRestorer) -> None:
    layers = {name: layer for name, layer in quant_layers(model).items() if layer.format.rank}
    floats = {name: layer.like(replace(layer.format, branch_bits=FLOAT_BRANCH)) for name, layer in layers.items()}
    for name, layer in floats.items():
        layer.set_branch(*layers[name].stored_branch())
    replace_by_name(model, floats)


def test_merged_branches_are_as_near_as_their_rank_allows(
    tiny: OneStepRestorer, low: OneStepRestorer, faces: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantface_core.train.distill.output_fisher", lambda *_: {})  # all outputs count alike
    branches_in_floats(low)  # whose rounding does not hide what merging loses
    apart, settings = copy.deepcopy(low), replace(SHORT, trainer=replace(SHORT.trainer, steps=1))
    distill(apart, tiny, faces[:4], faces[:0], settings)
    distill(low, tiny, faces[:4], faces[:0], replace(settings, merge_rank=4))
    assert {layer.format.rank for layer in quant_layers(low).values()} == {0, 4}
    for name, layer in quant_layers(apart).items():
        if layer.format.rank:
            merged, exact = (
                up.float() @ down.flatten(1).float()
                for down, up in (quant_layers(low)[name].stored_branch(), layer.stored_branch())
            )
            least = torch.linalg.svdvals(exact)[4:].norm()
            assert torch.linalg.norm(merged - exact) < 1.02 * least + 1e-3 * exact.norm()


@pytest.mark.parametrize(
    "change",
    [
        {"learn_clips": True, "precision": "bfloat16", "checkpointing": True},
        {"only_distillation": True},
        {"rank": 0, "perceptual": "gmsd", "perceptual_weight": 0.1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_trains(change: dict, tiny: OneStepRestorer, low: OneStepRestorer, faces: Tensor) -> None:
    before, branches = likeness(low, tiny, faces[8:]), stored(low)
    clips = {name: layer.format.clip for name, layer in quant_layers(low).items()}
    settings = replace(SHORT, trainer=replace(SHORT.trainer, validate_every=4), **change)
    report = distill(low, tiny, faces[:8], faces[8:], settings)
    assert all(torch.isfinite(torch.tensor(report.losses)))
    assert likeness(low, tiny, faces[8:]) > before - 0.2
    moved = any(layer.format.clip != clips[name] for name, layer in quant_layers(low).items())
    assert moved == settings.learn_clips
    assert max(layer.format.rank for layer in quant_layers(low).values()) == 4 + settings.rank
    if settings.only_distillation:
        name = next(n for n in branches if n.endswith(".down"))
        assert torch.equal(stored(low)[name][:4], branches[name])


def test_it_runs_inside_inference_mode_as_a_node_does(tiny: OneStepRestorer, quantized: OneStepRestorer) -> None:
    with torch.inference_mode():
        low, teacher = copy.deepcopy(quantized), copy.deepcopy(tiny)
        images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1
        report = distill(low, teacher, images, images[:1], SHORT)
        assert report.losses[-1] < report.losses[0] * 2
        reports = distill_blocks(low, teacher, images, replace(SHORT, trainer=replace(SHORT.trainer, steps=1)))
        assert reports
        assert torch.isfinite(low(images)).all()


def test_what_makes_no_sense_is_refused(tiny: OneStepRestorer, low: OneStepRestorer, faces: Tensor) -> None:
    with pytest.raises(UsageError, match="quantize it first"):
        distill(copy.deepcopy(tiny), tiny, faces, faces[:1], SHORT)
    with pytest.raises(UsageError, match="teacher is quantized"):
        distill(low, copy.deepcopy(low), faces, faces[:1], SHORT)
    for change in ({"rank": -2}, {"merge_rank": -1}, {"trainer": replace(SHORT.trainer, warmup=-1)}):
        with pytest.raises(UsageError, match="a whole number from 0 to"):
            distill(low, tiny, faces, faces[:1], replace(SHORT, **change))
    with pytest.raises(UsageError, match="seed is a whole number"):
        distill(low, tiny, faces, faces[:1], replace(SHORT, trainer=replace(SHORT.trainer, seed=2**43)))
    bare = copy.deepcopy(tiny)
    some = {n: s for n, s in calibrate_restorer(tiny, faces[:1]).items() if n.startswith("unet.mid_block")}
    quantize_restorer(bare, some, faces[:1], replace(FAST, rank=0))
    for train in (distill_blocks, lambda *given: distill(*given[:3], faces[:1], given[3])):
        with pytest.raises(UsageError, match=r"nothing to train|no layer has a low-rank branch"):
            train(bare, tiny, faces, SHORT)
    with pytest.raises(UsageError, match="one image"):
        distill(low, tiny, faces[:0], faces[:1], SHORT)
    before = stored(low)
    with pytest.raises(ImageError, match="160 pixels"):
        distill(low, tiny, faces[:4], faces[:1], replace(SHORT, perceptual="ms_ssim"))
    settings = replace(SHORT, trainer=replace(SHORT.trainer, steps=40, learning_rate=1e30, warmup=1))
    with pytest.raises(QuantFaceError, match="diverged"):
        distill(low, tiny, faces[:4], faces[:0], settings)
    assert same(stored(low), before)
