"""Small parts that several architectures share.

>>> import torch
>>> conv_bn(3, 8, 3, stride=2)(torch.rand(1, 3, 17, 17)).shape
torch.Size([1, 8, 9, 9])

No layer works in place: activations stay what they were when a site captured them.
"""

from __future__ import annotations

from torch import nn

__all__ = ["conv_bn", "pool"]


def conv_bn(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """Convolution without bias, BatchNorm, activation (None: no activation).

    The padding keeps the size at stride 1 and gives ``ceil(size / stride)`` otherwise.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if activation is not None:
        layers.append(activation())
    return nn.Sequential(*layers)


def pool() -> nn.Sequential:
    """Mean over all positions: maps ``(N, F, H, W)`` to features ``(N, F)``."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
