"""A custom network in plain torch: a small super-resolution CNN."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import quantface_core as qf


class TinySR(nn.Module):
    """[B, 3, H, W] -> [B, 3, 2 H, 2 W]."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(*(nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GELU()) for _ in range(3)))
        self.tail = nn.Sequential(nn.Conv2d(width, 12, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(x)
        return self.tail(y + self.body(y))


def build() -> nn.Module:
    """A model with random weights, whose channels differ in scale as after training."""
    torch.manual_seed(0)
    model = TinySR().eval()
    with torch.no_grad():
        model.head.weight.mul_(torch.logspace(-1, 1, len(model.head.weight)).view(-1, 1, 1, 1))
    return model


def batches(count: int = 3) -> list[Tensor]:
    """Images representative of the network's inputs."""
    return list(torch.rand(count, 2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1)


def main() -> None:
    model = build()
    qf.quantize(model, batches(), qf.QuantConfig(weight_bits=4, activation_bits=4, rank=4), exclude=["head", "tail"])
    qf.save_quantized(model, "tiny-sr-w4a4.safetensors")
    again = qf.load_quantized("tiny-sr-w4a4.safetensors", build())  # an instance of its class is the skeleton
    same = torch.equal(model(batches()[0]), again(batches()[0]))
    print(f"the loaded model's output is identical: {same}")


if __name__ == "__main__":
    main()
