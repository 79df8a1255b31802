"""Block by block: the losses fall, the picture comes nearer, a stopped run goes on."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from torch import Tensor

from quantface_core.restorer import OneStepRestorer
from quantface_core.stages.block_targets import block_names
from quantface_core.stages.distill import distill_blocks
from quantface_core.train.trainer import Trainer
from quantface_core.train.training import TrainerCallbacks
from tests.stages.distilling import SETTINGS, SHORT, TRAINER, likeness, same, stored


def test_stopped_blocks_go_on_to_the_same_weights(tiny: OneStepRestorer, low: OneStepRestorer, faces: Tensor) -> None:
    settings = replace(SHORT, trainer=replace(SHORT.trainer, steps=2, save_every=1))
    whole, states = copy.deepcopy(low), dict[str, dict[str, Tensor]]()
    distill_blocks(whole, tiny, faces[:8], settings)
    third, steps = block_names(low)[2], list[str]()

    def stop(trainer: Trainer) -> None:
        states[trainer.name] = trainer.state()
        if trainer.name == third:
            raise KeyboardInterrupt

    def resume(trainer: Trainer) -> None:
        if trainer.name in states:
            trainer.resume(states[trainer.name])

    with pytest.raises(KeyboardInterrupt):
        distill_blocks(low, tiny, faces[:8], settings, TrainerCallbacks(on_save=stop))
    callbacks = TrainerCallbacks(on_step=lambda trainer: steps.append(trainer.name), on_start=resume)
    reports = distill_blocks(low, tiny, faces[:8], settings, callbacks)
    assert same(stored(low), stored(whole))
    assert {len(report.losses) for report in reports.values()} == {2}
    first, second, *rest = block_names(low)
    assert not {first, second} & set(steps)  # what was finished is not trained again
    assert [steps.count(name) for name in rest] == [1, *[2] * (len(rest) - 1)]


def test_blocks_lower_their_losses_and_bring_the_picture_nearer(
    tiny: OneStepRestorer, low: OneStepRestorer, faces: Tensor
) -> None:
    before = likeness(low, tiny, faces[8:])
    settings = replace(SETTINGS, trainer=replace(TRAINER, steps=8, learning_rate=1e-3))
    reports = distill_blocks(low, tiny, faces[:8], settings)
    assert list(reports) == block_names(low)
    rooms = [name.split("_block")[0] for name in reports]
    assert list(dict.fromkeys(rooms))[-5:] == ["unet.down", "unet.mid", "unet.up", "vae.decoder.mid", "vae.decoder.up"]
    fallen = [sum(r.losses[-3:]) / sum(r.losses[:3]) for r in reports.values()]
    assert sum(ratio < 1 for ratio in fallen) >= 0.8 * len(fallen)
    assert likeness(low, tiny, faces[8:]) > before
