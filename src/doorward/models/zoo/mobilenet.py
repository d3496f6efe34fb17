"""MobileNetV2 and EfficientNet-B0: inverted residuals, with and without squeeze-and-excitation.

>>> import torch
>>> from doorward.models import create
>>> model = create("mobilenetv2", classes=10, input_shape=(3, 16, 16))
>>> model.features(torch.rand(2, 3, 16, 16)).shape
torch.Size([2, 1280])

Both halve the image less often than on ImageNet, as is usual for small images: MobileNetV2 three
times, EfficientNet four times instead of five. EfficientNet is without stochastic depth.
"""

from __future__ import annotations

from torch import Tensor, nn

from doorward.models.classifier import Body
from doorward.models.zoo.layers import conv_bn, pool
from doorward.models.zoo.registry import ARCHITECTURES

__all__ = ["InvertedResidual", "SqueezeExcite"]


class SqueezeExcite(nn.Module):
    """Channel weights in (0, 1) from the mean of each channel (Hu et al. 2018)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1),
            nn.SiLU(),
            nn.Conv2d(hidden, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """``(N, channels, H, W)`` to the same shape."""
        scaled: Tensor = maps * self.weigh(maps)
        return scaled


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter per channel, narrow by 1x1; a shortcut where shapes agree.

    Args:
        inputs: channels in.
        outputs: channels out.
        expand: how many times wider the middle is.
        kernel: size of the per-channel filter.
        stride: of the per-channel filter.
        squeeze: whether the middle is weighed by a `SqueezeExcite`.
        activation: after the first two convolutions.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        expand: int,
        kernel: int,
        stride: int,
        squeeze: bool,
        activation: type[nn.Module],
    ) -> None:
        super().__init__()
        hidden = inputs * expand
        layers: list[nn.Module] = []
        if expand != 1:
            layers.append(conv_bn(inputs, hidden, 1, activation=activation))
        layers.append(
            conv_bn(hidden, hidden, kernel, stride=stride, groups=hidden, activation=activation)
        )
        if squeeze:
            layers.append(SqueezeExcite(hidden, max(1, inputs // 4)))
        layers.append(conv_bn(hidden, outputs, 1, activation=None))
        self.change = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, maps: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` to ``(N, outputs, ceil(H / stride), ceil(W / stride))``."""
        changed: Tensor = self.change(maps)
        return maps + changed if self.residual else changed


@ARCHITECTURES.register(
    "mobilenetv2",
    parameters=2_236_682,
    paper="Sandler et al. 2018, MobileNetV2: Inverted Residuals and Linear Bottlenecks",
    year=2018,
)
def mobilenetv2(channels: int, size: tuple[int, int]) -> Body:
    """Inverted residuals for phones."""
    # (expand, outputs, depth, stride) of the paper's Table 2; the first two strides are 1 here.
    table = [
        (1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
        (6, 160, 3, 2), (6, 320, 1, 1),
    ]  # fmt: skip
    steps: dict[str, nn.Module] = {"stem": conv_bn(channels, 32, 3, activation=nn.ReLU6)}
    inputs = 32
    for index, (expand, outputs, depth, stride) in enumerate(table):
        blocks = []
        for layer in range(depth):
            blocks.append(
                InvertedResidual(
                    inputs,
                    outputs,
                    expand=expand,
                    kernel=3,
                    stride=stride if layer == 0 else 1,
                    squeeze=False,
                    activation=nn.ReLU6,
                )
            )
            inputs = outputs
        steps[f"stage{index + 1}"] = nn.Sequential(*blocks)
    steps["last"] = conv_bn(inputs, 1280, 1, activation=nn.ReLU6)
    return Body({**steps, "pool": pool()}, 1280)


@ARCHITECTURES.register(
    "efficientnet-b0",
    parameters=4_020_358,
    paper="Tan and Le 2019, EfficientNet: Rethinking Model Scaling",
    year=2019,
)
def efficientnet_b0(channels: int, size: tuple[int, int], *, dropout: float = 0.2) -> Body:
    """Inverted residuals with squeeze-and-excitation and SiLU, found by search."""
    # (expand, kernel, outputs, depth, stride) of the paper's Table 1; the stem's stride is 1 here.
    table = [
        (1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2),
        (6, 5, 112, 3, 1), (6, 5, 192, 4, 2), (6, 3, 320, 1, 1),
    ]  # fmt: skip
    steps: dict[str, nn.Module] = {"stem": conv_bn(channels, 32, 3, activation=nn.SiLU)}
    inputs = 32
    for index, (expand, kernel, outputs, depth, stride) in enumerate(table):
        blocks = []
        for layer in range(depth):
            blocks.append(
                InvertedResidual(
                    inputs,
                    outputs,
                    expand=expand,
                    kernel=kernel,
                    stride=stride if layer == 0 else 1,
                    squeeze=True,
                    activation=nn.SiLU,
                )
            )
            inputs = outputs
        steps[f"stage{index + 1}"] = nn.Sequential(*blocks)
    steps["last"] = conv_bn(inputs, 1280, 1, activation=nn.SiLU)
    return Body({**steps, "pool": pool(), "dropout": nn.Dropout(dropout)}, 1280)
