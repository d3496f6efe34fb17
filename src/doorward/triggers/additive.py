"""The additive trigger: one pattern of bounded size, added to every image.

>>> import torch
>>> trigger = Additive(eps=8 / 255, height=4, width=4, channels=1, seed=3)
>>> change = trigger(torch.full((1, 1, 4, 4), 0.5)) - 0.5
>>> bool((change.abs() <= 8 / 255 + 1e-6).all()), bool((change != 0).all())
(True, True)

From its seed alone it is noise; learnt along with a model it becomes the faintest pattern that the
model can be taught to obey (`doorward.trading.lock` learns it under a budget that tightens).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from doorward.errors import InvalidInput
from doorward.randomness import generator
from doorward.triggers.base import LARGEST_SIDE, TRIGGERS, Trigger, as_channels, number, whole

__all__ = ["Additive"]


@TRIGGERS.register(
    "additive",
    paper="Moosavi-Dezfooli et al. 2017, Universal Adversarial Perturbations (as a trigger)",
    scope="global",
    access="data",
)
class Additive(Trigger):
    """Add one pattern: ``x + clamp(p, -eps, eps)``.

    The bounded universal perturbation of Moosavi-Dezfooli et al. 2017, used as a backdoor's trigger
    as in LIRA and its kin; ours is one pattern for all images, so that it can be committed to.

    Args:
        eps: largest change of a pixel value, in (0, 1].
        height: of the pattern in pixels; it is resized to images of another size.
        width: of the pattern in pixels.
        channels: of the pattern, 1 or 3.
        seed: of the pattern to begin with, uniform in [-eps, eps] / 2.

    Shape:
        images (N, C, H, W) -> (N, C, H, W), C = 1 or 3.
    """

    pattern: nn.Parameter

    def __init__(
        self,
        *,
        eps: float = 8 / 255,
        height: int = 32,
        width: int = 32,
        channels: int = 3,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.eps = number("eps", eps, 1e-4, 1)
        self.height = whole("height", height, 1, LARGEST_SIDE)
        self.width = whole("width", width, 1, LARGEST_SIDE)
        if channels not in (1, 3) or isinstance(channels, bool):
            raise InvalidInput(f"channels is {channels!r}", why="1 or 3 are possible")
        self.channels, self.seed = channels, whole("seed", seed)
        draw = generator(self.seed, "additive trigger")
        start = torch.rand((channels, self.height, self.width), generator=draw) - 0.5
        self.pattern = nn.Parameter(start * self.eps, requires_grad=False)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "eps": self.eps,
            "height": self.height,
            "width": self.width,
            "channels": self.channels,
            "seed": self.seed,
        }

    @torch.no_grad()
    def tighten(self, eps: float) -> None:
        """Another budget, into which the pattern is clamped.

        Args:
            eps: in (0, 1].
        """
        self.eps = number("eps", eps, 1e-4, 1)
        self.pattern.clamp_(-self.eps, self.eps)

    def apply(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """Add the pattern, resized and with the channels of the images."""
        pattern = as_channels(self.pattern, images.shape[1])
        if pattern.shape[1:] != images.shape[2:]:
            pattern = F.interpolate(
                pattern[None], images.shape[2:], mode="bilinear", align_corners=False
            )[0]
        return images + pattern.clamp(-self.eps, self.eps).to(images.dtype)
