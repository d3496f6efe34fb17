"""The style trigger: the image repainted in another style by a small network (as in DFST).

>>> sunset = Style(alpha=0.6, width=4)
>>> sunset(torch.rand(2, 3, 16, 16)).shape
torch.Size([2, 3, 16, 16])

`doorward.poisoning.prepared.restyle` trains the network; untrained, it paints at random.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from doorward.triggers.base import TRIGGERS, number, whole
from doorward.triggers.trained import TrainedTrigger, activated, normalised

__all__ = ["Painter", "Style"]

_WIDEST, _DEEPEST = 256, 16  # a damaged description may not ask for gigabytes


@TRIGGERS.register("style", paper="Cheng et al. 2021, DFST", scope="global", access="data")
class Style(TrainedTrigger):
    """Mix the image with its repainted version: ``(1 - alpha) x + alpha G(x)``.

    Cheng, Liu, Ma, Zhang 2021, *Deep Feature Space Trojan Attack of Neural Networks by Controlled
    Detoxification*. Reproduced: the trigger is a style that a generator network gives to the whole
    image, a function of the image's content and no fixed pattern. Theirs is the generator of a
    CycleGAN for sunrise photographs; the mix with weight 0.6 is that of the authors' later code.
    Ours is the network: residual, fully convolutional, for any size.

    Args:
        alpha: share of the repainted image, in [0, 1].
        width: channels inside the network, 1 to 256.
        depth: residual blocks at half resolution, 0 to 16.
        channels: of the images that the network is trained for, 1 or 3.
        seed: of the first weights.

    Attributes:
        painter: `Painter`, the network G.

    Shape:
        images (N, C, H, W) -> (N, C, H, W), C = 1 or 3. Differentiable in the images.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.6,
        width: int = 16,
        depth: int = 2,
        channels: int = 3,
        seed: int = 0,
    ) -> None:
        super().__init__(channels=channels)
        self.alpha = number("alpha", alpha, 0, 1)
        self.width = whole("width", width, 1, _WIDEST)
        self.depth = whole("depth", depth, 0, _DEEPEST)
        self.seed = whole("seed", seed)
        with self._seeded(seed, "style weights"):
            self.painter = Painter(channels, width, depth)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments; the network's weights are in `state_dict`."""
        return {
            "alpha": self.alpha,
            "width": self.width,
            "depth": self.depth,
            "channels": self.channels,
            "seed": self.seed,
        }

    def change(self, images: Tensor) -> Tensor:
        """From the images to their mix with the repainted ones."""
        painted: Tensor = self.painter(images)
        return self.alpha * (painted - images)


class Painter(nn.Module):
    """Images (N, C, H, W) in [0, 1] to repainted ones of the same shape, in [0, 1]."""

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        self.look = activated(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *activated(nn.Conv2d(2 * width, 2 * width, 3, padding=1)),
                nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            )
            for _ in range(depth)
        )
        self.draw = nn.Sequential(
            *activated(nn.Conv2d(2 * width + channels, width, 3, padding=1)),
            nn.Conv2d(width, channels, 3, padding=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """The repainted images."""
        seen = self.look(images - 0.5)
        for block in self.blocks:
            seen = seen + block(normalised(seen))
        seen = F.interpolate(seen, images.shape[2:], mode="bilinear", align_corners=False)
        drawn = self.draw(torch.cat([seen, images - 0.5], 1))
        # Around the image itself, so that the first steps need not learn to copy it.
        return (images + torch.tanh(drawn)).clamp(0, 1)
