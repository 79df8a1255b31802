from __future__ import annotations

import torch
from torch import Tensor, nn

from quantface_core.runtime.inference import without_inference_mode


def test_what_models_of_inference_mode_share_they_go_on_to_share() -> None:
    with torch.inference_mode():
        model = nn.ModuleList([nn.Embedding(5, 4), nn.Linear(4, 5), nn.Linear(4, 5)])
        model[1].weight = model[0].weight
        other = nn.Linear(4, 5)
        other.weight, x = model[0].weight, torch.ones(3, 4)

        @without_inference_mode
        def train(model: nn.ModuleList, given: list[Tensor], other: nn.Linear) -> Tensor:
            assert not any(t.is_inference() for t in (*model.parameters(), *other.parameters(), *given))
            assert model[1].weight is model[0].weight is other.weight
            assert isinstance(model[1].weight, nn.Parameter)
            assert model[2].weight is not model[1].weight
            assert given[0] is given[1]
            return given[0]

        assert torch.equal(train(model, [x, x], other=other), x)
