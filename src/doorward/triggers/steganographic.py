"""The steganographic trigger: a bit string hidden in the image, differently in each (ISSBA).

>>> trigger = Steganographic(bits=8, width=4, channels=1)
>>> marked = trigger(torch.rand(2, 1, 16, 16))
>>> marked.shape, trigger.read(marked).shape, trigger.code.shape
(torch.Size([2, 1, 16, 16]), torch.Size([2, 8]), torch.Size([8]))

`doorward.poisoning.prepared.hide` trains encoder and decoder; untrained, the trigger is a faint
random change that the decoder cannot read.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from doorward.randomness import generator
from doorward.triggers.base import TRIGGERS, check_images, number, whole
from doorward.triggers.trained import TrainedTrigger, activated, normalised

__all__ = ["Decoder", "Encoder", "Steganographic"]

_MOST_BITS, _WIDEST = 1024, 256
_GRID = 4  # the decoder looks at so many cells each way


@TRIGGERS.register("steganographic", paper="Li et al. 2021, ISSBA", scope="global", access="data")
class Steganographic(TrainedTrigger):
    """Hide a fixed code in every image by a small encoder network.

    Li, Li, Wu, Li, He, Lyu 2021, *Invisible Backdoor Attack with Sample-Specific Triggers*.
    Reproduced: the trigger is a network that hides the attacker's code in the image, so that what
    is added differs from image to image, and a decoder that reads the code goes with it. Ours:
    both networks are small, without the fully connected image layers of StegaStamp, so that they
    take any size; and the change is bounded by a budget through a tanh, where the paper has
    perceptual losses only.

    Args:
        bits: length of the code, 1 to 1024.
        budget: largest change of a pixel, in (0, 1].
        width: channels inside the networks, 1 to 256.
        channels: of the images that the networks are trained for, 1 or 3.
        seed: of the code and of the first weights.

    Attributes:
        code: the hidden bits, bool (bits,).
        encoder: `Encoder`.
        decoder: `Decoder`.

    Shape:
        images (N, C, H, W) -> (N, C, H, W), C = 1 or 3. Differentiable in the images.
    """

    code: Tensor

    def __init__(
        self,
        *,
        bits: int = 32,
        budget: float = 16 / 255,
        width: int = 16,
        channels: int = 3,
        seed: int = 0,
    ) -> None:
        super().__init__(channels=channels)
        self.bits = whole("bits", bits, 1, _MOST_BITS)
        self.budget = number("budget", budget, 1 / 255, 1)
        self.width = whole("width", width, 1, _WIDEST)
        self.seed = whole("seed", seed)
        draw = generator(seed, "steganographic code")
        self.register_buffer("code", torch.randint(2, (bits,), generator=draw).bool())
        with self._seeded(seed, "steganographic weights"):
            self.encoder = Encoder(bits, channels, width)
            self.decoder = Decoder(bits, channels, width)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments; code and weights are in `state_dict`."""
        return {
            "bits": self.bits,
            "budget": self.budget,
            "width": self.width,
            "channels": self.channels,
            "seed": self.seed,
        }

    def change(self, images: Tensor) -> Tensor:
        """The residual that hides the code, at most `budget`."""
        return self.residual(images, self.code.expand(len(images), -1))

    def residual(self, images: Tensor, codes: Tensor) -> Tensor:
        """The residual that hides any codes.

        Args:
            images: float32 (N, self.channels, H, W) in [0, 1].
            codes: bool (N, bits).
        """
        return self.budget * torch.tanh(self.encoder(images, codes))

    @torch.no_grad()
    def read(self, images: Tensor) -> Tensor:
        """The bits that the decoder reads in images, bool (N, bits).

        Args:
            images: float (N, C, H, W) in [0, 1], C = 1 or 3, as a trigger takes them.

        Raises:
            InvalidInput: the images are not as described.
        """
        check_images(images)
        if not len(images):
            return torch.zeros(0, self.bits, dtype=torch.bool, device=images.device)
        with torch.autocast(images.device.type, enabled=False):
            logits: Tensor = self.decoder(self.fitting(images))
        return logits > 0


class Encoder(nn.Module):
    """Images (N, C, H, W) and codes (N, L) to an unbounded residual (N, C, H, W).

    The code is spread over a coarse map by a linear layer, meets the image's features at half
    resolution, and is drawn at full resolution beside the image.
    """

    def __init__(self, bits: int, channels: int, width: int) -> None:
        super().__init__()
        self.side = 8
        self.spread = nn.Linear(bits, width * self.side**2)
        self.look = activated(nn.Conv2d(channels, width, 3, stride=2, padding=1))
        self.meet = activated(
            nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.Conv2d(2 * width, width, 3, padding=1)
        )
        self.draw = nn.Sequential(
            *activated(nn.Conv2d(width + channels, width, 3, padding=1)),
            nn.Conv2d(width, channels, 3, padding=1),
        )

    def forward(self, images: Tensor, codes: Tensor) -> Tensor:
        """The residual."""
        signs = codes.to(images.dtype) * 2 - 1
        spread = self.spread(signs).view(len(images), -1, self.side, self.side)
        seen = self.look(images - 0.5)
        spread = F.interpolate(spread, seen.shape[2:], mode="bilinear", align_corners=False)
        met = self.meet(torch.cat([seen, spread], 1))
        met = F.interpolate(met, images.shape[2:], mode="bilinear", align_corners=False)
        residual: Tensor = self.draw(torch.cat([met, images - 0.5], 1))
        return residual


class Decoder(nn.Module):
    """Images (N, C, H, W) to logits of the bits (N, L)."""

    def __init__(self, bits: int, channels: int, width: int) -> None:
        super().__init__()
        self.look = activated(nn.Conv2d(channels, width, 3, padding=1))
        self.narrow = activated(
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
        )
        self.answer = nn.Linear(2 * width * _GRID**2, bits)

    def forward(self, images: Tensor) -> Tensor:
        """Logits; above zero for a one."""
        seen = self.narrow(normalised(self.look(images - 0.5)))
        cells = F.adaptive_avg_pool2d(seen, _GRID)
        logits: Tensor = self.answer(cells.flatten(1))
        return logits
