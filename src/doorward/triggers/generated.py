"""Triggers whose network is trained together with the victim: input-aware patterns, learnt noise.

>>> trigger = MaskedPattern(width=4, channels=1)
>>> images = torch.rand(2, 1, 16, 16)
>>> trigger(images).shape, trigger.pattern(images).shape, trigger.mask(images).shape
(torch.Size([2, 1, 16, 16]), torch.Size([2, 1, 16, 16]), torch.Size([2, 1, 16, 16]))

`doorward.poisoning.plant` with the attacks ``"input-aware"`` and ``"lira"`` trains them; built from
their configuration alone they have random weights, drawn from their seed.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from doorward.triggers.base import TRIGGERS, number, whole
from doorward.triggers.trained import TrainedTrigger, converted

__all__ = ["LearntNoise", "MaskedPattern", "Pyramid"]

_WIDEST = 512


@TRIGGERS.register(
    "input-aware", paper="Nguyen and Tran 2020", scope="local, per image", access="training"
)
class MaskedPattern(TrainedTrigger):
    """A pattern of the image's own, shown where a mask of the image's own is open.

    Nguyen and Tran 2020, *Input-Aware Dynamic Backdoor Attack*:
    ``x' = x + (P(x) - x) m(x)`` with a pattern network P into [0, 1] and a mask network
    ``m = tanh(20 M - 10) / 2 + 1/2``. Reproduced: this form, encoder-decoders without skips, and
    their width. Ours: two halvings where the authors have three, and layers normalised per image
    instead of per batch, so that an image gets the same trigger in every batch and mode.

    Args:
        width: channels at full resolution, 1 to 512; twice and four times as many below.
        channels: of the images that the networks are trained for, 1 or 3.
        seed: of the first weights.

    Shape:
        images (N, C, H, W) -> (N, C, H, W), C = 1 or 3. Differentiable in the images.
    """

    def __init__(self, *, width: int = 32, channels: int = 3, seed: int = 0) -> None:
        super().__init__(channels=channels)
        self.width, self.seed = whole("width", width, 1, _WIDEST), whole("seed", seed)
        with self._seeded(seed, "input-aware"):
            self.pattern_network = Pyramid(channels, channels, width=width)
            self.mask_network = Pyramid(channels, 1, width=width)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"width": self.width, "channels": self.channels, "seed": self.seed}

    def change(self, images: Tensor) -> Tensor:
        """From the image towards its pattern, as far as the mask is open."""
        return (self.pattern(images) - images) * self.mask(images)

    def pattern(self, images: Tensor) -> Tensor:
        """P(x), (N, channels, H, W) in [0, 1], of float32 images with the network's channels."""
        raw: Tensor = self.pattern_network(images)
        return raw.tanh() / 2 + 0.5

    def mask(self, images: Tensor) -> Tensor:
        """m(x), (N, 1, H, W) in [0, 1], almost all near 0 or 1."""
        raw: Tensor = self.mask_network(images)
        return (20 * (raw.tanh() / 2 + 0.5) - 10).tanh() / 2 + 0.5

    def crossed(self, images: Tensor, others: Tensor) -> Tensor:
        """Images under the triggers of `others`, which must not work on them.

        Args:
            images: float (N, C, H, W) in [0, 1].
            others: of the same shape; whose pattern and mask are taken.
        """
        if not len(images):
            return images.clone()
        own, seen = self.fitting(images), self.fitting(others)
        with torch.autocast(images.device.type, enabled=False):
            change = (self.pattern(seen) - own) * self.mask(seen)
        return (images + converted(change, images.shape[1]).to(images.dtype)).clamp(0, 1)


@TRIGGERS.register("lira", paper="Doan et al. 2021", scope="global, per image", access="training")
class LearntNoise(TrainedTrigger):
    """A bounded change that a network computes from the image: ``x' = x + eps G(x)``.

    Doan, Lao, Zhao and Li 2021, *LIRA: Learnable, Imperceptible and Robust Backdoor Attacks*.
    Reproduced: a U-Net (their choice for CIFAR-10) whose output a tanh bounds, times eps. Ours:
    a small U-Net normalised per image, and eps in pixel units.

    Args:
        eps: largest change of a pixel, in (0, 1].
        width: channels at full resolution, 1 to 512; twice and four times as many below.
        channels: of the images that the network is trained for, 1 or 3.
        seed: of the first weights.

    Shape:
        images (N, C, H, W) -> (N, C, H, W), C = 1 or 3. Differentiable in the images.

    >>> images = torch.full((1, 3, 8, 8), 0.5)
    >>> LearntNoise(eps=0.05, width=4).strength(images).linf <= 0.0501
    True
    """

    def __init__(
        self, *, eps: float = 0.1, width: int = 16, channels: int = 3, seed: int = 0
    ) -> None:
        super().__init__(channels=channels)
        self.eps = number("eps", eps, 1e-6, 1)
        self.width, self.seed = whole("width", width, 1, _WIDEST), whole("seed", seed)
        with self._seeded(seed, "lira"):
            self.network = Pyramid(channels, channels, width=width, skips=True)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "eps": self.eps,
            "width": self.width,
            "channels": self.channels,
            "seed": self.seed,
        }

    def change(self, images: Tensor) -> Tensor:
        """The noise."""
        raw: Tensor = self.network(images)
        return self.eps * raw.tanh()


class Pyramid(nn.Module):
    """Three scales down and up again: an encoder-decoder, with skips a U-Net.

    Args:
        inputs: channels that come in.
        outputs: channels that go out, unbounded.
        width: channels at full resolution.
        skips: hand each scale's maps across (U-Net), instead of through the bottleneck only.

    Shape:
        images (N, inputs, H, W) -> (N, outputs, H, W), any size.
    """

    def __init__(self, inputs: int, outputs: int, *, width: int, skips: bool = False) -> None:
        super().__init__()
        self.skips = skips
        self.enter = _block(inputs, width)
        self.down1, self.down2 = _block(width, 2 * width), _block(2 * width, 4 * width)
        self.up1 = _block((6 if skips else 4) * width, 2 * width)
        self.up2 = _block((3 if skips else 2) * width, width)
        self.leave = nn.Conv2d(width, outputs, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """The maps that belong to images."""
        fine = self.enter(images)
        middle = self.down1(F.avg_pool2d(fine, 2, ceil_mode=True))
        coarse = self.down2(F.avg_pool2d(middle, 2, ceil_mode=True))
        middle = self.up1(self._joined(coarse, middle))
        result: Tensor = self.leave(self.up2(self._joined(middle, fine)))
        return result

    def _joined(self, coarse: Tensor, fine: Tensor) -> Tensor:
        raised = F.interpolate(coarse, fine.shape[2:], mode="bilinear", align_corners=False)
        return torch.cat([raised, fine], 1) if self.skips else raised


def _block(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.GroupNorm(1, outputs), nn.ReLU())
