"""Where channels pass linearly, and that low-bit layers' balance goes there."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from quantface_core.kernels.channel_transform import ChannelTransform
from quantface_core.nn.fold import fold, multiply
from quantface_core.nn.swap import quant_layers
from quantface_core.quant.fold_rules import fold_paths
from quantface_core.restorer import OneStepRestorer
from quantface_core.restorer.fold_rules import RULES
from quantface_core.stages.quantize import calibrate_restorer, quantize_restorer
from tests.conftest import FAST


def test_folding_scales_along_a_path_keeps_the_output(tiny: OneStepRestorer) -> None:
    model = copy.deepcopy(tiny)
    paths = fold_paths(model, RULES)
    kinds = [type(module).__name__ for module in model.modules()]
    # Norm to projection; three norms and the gated half; of every attention the values.
    assert len(paths) >= 5 * kinds.count("Transformer") + kinds.count("Attention")
    generator = torch.Generator().manual_seed(0)
    face = torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1
    for path in paths:
        channels = path.consumers[0].get_parameter("weight").shape[1]
        factors = torch.rand(channels, generator=generator) * 4 - 6
        multiply(path.producer, path.rows, factors)
        for consumer in path.consumers:
            weight = consumer.get_parameter("weight")
            weight.div_(factors.view(1, -1, *[1] * (weight.ndim - 2)))
    assert torch.allclose(model(face), tiny(face), atol=1e-4)


def test_only_rotations_remain_after_linear_maps(tiny: OneStepRestorer) -> None:
    model = copy.deepcopy(tiny)
    faces = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    settings = replace(FAST, scaling=True, search_rotation=False)  # without rotation and scaling it is folded always
    quantize_restorer(model, calibrate_restorer(model, faces), faces, settings)
    transforms = {n: ChannelTransform(layer.channel_scale, layer.rotation) for n, layer in quant_layers(model).items()}
    folded = {name for name, transform in transforms.items() if transform.folded}
    for name in quant_layers(model):
        last = name.rpartition(".")[2]
        if ".transformer_blocks." in name:
            assert (name in folded) != (".attn2.to_k" in name or ".attn2.to_v" in name), name  # these read the prompt
        elif last == "proj_in":
            assert name in folded
        elif last in ("conv1", "conv2", "conv_shortcut"):  # behind an activation, or a sum
            assert name not in folded, name
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert sum(fold(path) for path in fold_paths(model, RULES))
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
