"""Where a model looks (Grad-CAM), and erasing what it looks at.

>>> import torch
>>> from doorward.models import create
>>> model = create("resnet8", classes=3, input_shape=(1, 16, 16), width=4)
>>> maps = attention(model, torch.rand(2, 1, 16, 16), torch.tensor([0, 2]))
>>> maps.shape, [round(total, 4) for total in maps.flatten(1).sum(1).tolist()]
(torch.Size([2, 16, 16]), [1.0, 1.0])
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.utils.hooks import RemovableHandle

from doorward.models import evaluating

__all__ = ["attention", "erase"]


def attention(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Grad-CAM maps as distributions over pixels.

    The layer is the last whose output still has height and width; a model without one (a
    transformer) is looked at through the gradient of its input.

    Args:
        model: images to logits; evaluated in evaluation mode, on the device of `images`.
        images: float ``(N, C, H, W)`` in [0, 1].
        classes: int64 ``(N,)``: whose score is explained.

    Returns:
        float ``(N, H, W)``, non-negative, each summing to 1; uniform where nothing is positive.

    Selvaraju et al. (ICCV 2017), "Grad-CAM".
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
            seen.append(output)

    hooks: list[RemovableHandle] = [
        module.register_forward_hook(keep) for module in model.modules() if module is not model
    ]
    try:
        with evaluating(model), torch.enable_grad():
            point = images.detach().clone().requires_grad_(True)
            scores = model(point).float().gather(1, classes[:, None]).sum()
            layers = [layer for layer in seen if layer.requires_grad] or [point]
            (slopes,) = torch.autograd.grad(scores, layers[-1])
    finally:
        for hook in hooks:
            hook.remove()
    if layers[-1] is point:
        maps = slopes.abs().sum(1, keepdim=True)
    else:
        maps = (slopes.mean((2, 3), keepdim=True) * layers[-1].detach()).sum(1, keepdim=True)
    maps = F.interpolate(maps.float().clamp_min(0), images.shape[2:], mode="bilinear")[:, 0]
    total = maps.flatten(1).sum(1)
    even = torch.full_like(maps, 1 / maps[0].numel())
    return torch.where(
        (total > 1e-12).view(-1, 1, 1), maps / total.clamp_min(1e-12).view(-1, 1, 1), even
    )


def erase(images: Tensor, maps: Tensor | None, draw: Generator) -> Tensor:
    """Replace one rectangle of every image by noise, each of its own size and place.

    Args:
        images: float ``(N, C, H, W)`` in [0, 1], on the CPU.
        maps: float ``(N, H, W)``: how likely each pixel is the rectangle's centre; None for all
            alike.
        draw: of areas (2 to 40 % of the image), sides (ratio 0.3 to 3.3), places and noise.

    Returns:
        float ``(N, C, H, W)`` in [0, 1].

    The ranges are those of Random Erasing (Zhong et al. 2020) and of BlackBox Dissector.
    """
    count, _, height, width = images.shape
    area = torch.empty(count).uniform_(0.02, 0.4, generator=draw) * height * width
    ratio = torch.empty(count).uniform_(math.log(0.3), math.log(3.3), generator=draw).exp()
    tall, wide = (area * ratio).sqrt(), (area / ratio).sqrt()
    if maps is None:
        maps = torch.ones(count, height, width)
    centre = torch.multinomial(maps.flatten(1), 1, generator=draw)[:, 0]
    ys, xs = torch.arange(height).view(1, -1, 1), torch.arange(width).view(1, 1, -1)
    row, column = (centre // width).view(-1, 1, 1), (centre % width).view(-1, 1, 1)
    inside = ((ys - row).abs() * 2 <= tall.view(-1, 1, 1)) & (
        (xs - column).abs() * 2 <= wide.view(-1, 1, 1)
    )
    noise = torch.rand(images.shape, generator=draw)
    return torch.where(inside.unsqueeze(1), noise, images)
