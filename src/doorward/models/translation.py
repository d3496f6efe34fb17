"""A small U-Net from images to images that begins close to the identity.

>>> translator = Translator(3, width=8, draw=torch.Generator().manual_seed(0))
>>> images = torch.rand(2, 3, 20, 18)
>>> float((translator(images) - images).detach().abs().max()) < 0.1
True

Methods that look for a trigger which depends on the image train one of these.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Translator"]


class Translator(nn.Module):
    """Images plus a learned change, clipped to [0, 1]; at first the change is small.

    It is not zero, because what is trained on how far features move (a square) has no slope there.
    Two halvings, three scales. Normalised per image, so that it makes the same of an image in
    every batch and mode.

    Args:
        channels: of the images.
        width: channels at full resolution; twice and four times as many below.
        draw: of the initial weights (He et al. 2015; of the last layer a hundredth).
    """

    def __init__(self, channels: int, *, width: int, draw: torch.Generator) -> None:
        super().__init__()
        with torch.random.fork_rng([]):  # what layers draw for themselves is drawn again below
            self.enter = _block(channels, width)
            self.down1, self.down2 = _block(width, 2 * width), _block(2 * width, 4 * width)
            self.up1, self.up2 = _block(6 * width, 2 * width), _block(3 * width, width)
            self.leave = nn.Conv2d(width, channels, 1, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=draw)
        with torch.no_grad():
            self.leave.weight.mul_(0.01)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to the same."""
        fine = self.enter(images)
        middle = self.down1(F.avg_pool2d(fine, 2, ceil_mode=True))
        coarse = self.down2(F.avg_pool2d(middle, 2, ceil_mode=True))
        middle = self.up1(torch.cat([_to(coarse, middle), middle], 1))
        fine = self.up2(torch.cat([_to(middle, fine), fine], 1))
        change: Tensor = self.leave(fine)
        return (images + change).clamp(0, 1)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(1, outputs), nn.ReLU())


def _to(maps: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(maps, like.shape[2:], mode="nearest")
