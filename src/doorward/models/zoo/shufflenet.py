"""ShuffleNetV2 (1x) for small images: the stem keeps the resolution, three stages halve it.

>>> import torch
>>> from doorward.models import create
>>> model = create("shufflenetv2", classes=10, input_shape=(3, 16, 16))
>>> model.features(torch.rand(2, 3, 16, 16)).shape
torch.Size([2, 1024])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from doorward.models.classifier import Body
from doorward.models.zoo.layers import conv_bn, pool
from doorward.models.zoo.registry import ARCHITECTURES

__all__ = ["ShuffleUnit"]


class ShuffleUnit(nn.Module):
    """Half of the channels pass by, half are filtered; then the halves are interleaved.

    A unit that widens (`inputs` differs from `outputs`) filters all channels in both branches, at
    stride 2.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.halving = inputs != outputs
        stride, entering = (2, inputs) if self.halving else (1, half)
        self.change = nn.Sequential(
            conv_bn(entering, half, 1),
            conv_bn(half, half, 3, stride=stride, groups=half, activation=None),
            conv_bn(half, half, 1),
        )
        self.shortcut: nn.Module = nn.Identity()
        if self.halving:
            self.shortcut = nn.Sequential(
                conv_bn(inputs, inputs, 3, stride=2, groups=inputs, activation=None),
                conv_bn(inputs, half, 1),
            )

    def forward(self, maps: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` to ``(N, outputs, H, W)``, or half the size where it widens."""
        kept, entering = (maps, maps) if self.halving else maps.chunk(2, dim=1)
        halves = [self.shortcut(kept), self.change(entering)]
        return torch.stack(halves, dim=2).flatten(1, 2)


@ARCHITECTURES.register(
    "shufflenetv2",
    parameters=1_263_854,
    paper="Ma et al. 2018, ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture",
    year=2018,
)
def shufflenetv2(channels: int, size: tuple[int, int]) -> Body:
    """Cheap channel mixing for phones."""
    steps: dict[str, nn.Module] = {"stem": conv_bn(channels, 24, 3)}
    inputs = 24
    for index, (outputs, depth) in enumerate([(116, 4), (232, 8), (464, 4)]):
        units = [ShuffleUnit(inputs, outputs)]
        units += [ShuffleUnit(outputs, outputs) for _ in range(depth - 1)]
        steps[f"stage{index + 1}"] = nn.Sequential(*units)
        inputs = outputs
    steps["last"] = conv_bn(inputs, 1024, 1)
    return Body({**steps, "pool": pool()}, 1024)
