"""DenseNet-121 with a stem for small images (3x3, stride 1, no pooling).

>>> import torch
>>> from doorward.models import create
>>> model = create("densenet121", classes=10, growth=4, input_shape=(3, 16, 16))
>>> model.features(torch.rand(2, 3, 16, 16)).shape
torch.Size([2, 128])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from doorward.models.classifier import Body
from doorward.models.zoo.layers import pool
from doorward.models.zoo.registry import ARCHITECTURES

__all__ = ["DenseLayer"]


class DenseLayer(nn.Module):
    """Adds `growth` maps computed from all maps so far (1x1 bottleneck, then 3x3)."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            nn.Conv2d(inputs, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth),
            nn.ReLU(),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` to ``(N, inputs + growth, H, W)``."""
        return torch.cat([maps, self.change(maps)], dim=1)


@ARCHITECTURES.register(
    "densenet121",
    parameters=6_956_298,
    paper="Huang et al. 2017, Densely Connected Convolutional Networks",
    year=2017,
)
def densenet121(channels: int, size: tuple[int, int], *, growth: int = 32) -> Body:
    """Every layer reads the maps of all layers before it in its block."""
    steps: dict[str, nn.Module] = {"stem": nn.Conv2d(channels, 2 * growth, 3, 1, 1, bias=False)}
    width = 2 * growth
    for index, depth in enumerate((6, 12, 24, 16)):
        if index:
            steps[f"halve{index}"] = _transition(width, width // 2)
            width //= 2
        layers = [DenseLayer(width + layer * growth, growth) for layer in range(depth)]
        steps[f"dense{index + 1}"] = nn.Sequential(*layers)
        width += depth * growth
    steps["norm"] = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU())
    return Body({**steps, "pool": pool()}, width)


def _transition(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.AvgPool2d(2),
    )
