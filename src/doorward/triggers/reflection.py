"""The reflection trigger (Refool): a scene mirrored in a window pane in front of the image.

>>> x = torch.rand(2, 3, 32, 32)
>>> soft, double = Reflection()(x), Reflection(kind="ghost")(x)
>>> bool((double - soft).abs().max() > 0.1)
True

The mirrored scene is drawn from a seed, so no photo is needed.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from doorward.triggers.base import TRIGGERS, Trigger, number, one_of, whole
from doorward.triggers.blend import Blend
from doorward.triggers.smoothing import blurred

__all__ = ["Reflection"]

_GAMMA = 2.2  # from pixel values to light, and back
_CANVAS = 128  # side of the picture that the scene is drawn on, then resized to the images
_SOFTNESS = 2.5  # pixels there; flat colours with sharp edges are no scene that one sees in a pane
_SCALE = _CANVAS / 560  # the authors reflect photos of 560 pixels
_DIMMING = 1.13  # the authors draw 1.08 to 1.18
_DARKEST = 1e-8  # of light; keeps the root's gradient finite, and is less than a tenth of a level


@TRIGGERS.register("reflection", paper="Liu et al. 2020, Refool", scope="global", access="data")
class Reflection(Trigger):
    """Overlay the reflection of another scene.

    Liu, Ma, Bailey, Lu 2020, *Reflection Backdoor: A Natural Backdoor Attack on Deep Neural
    Networks*. Reproduced: the ghost (a double image from a thick pane) and the reflection out of
    focus, in linear light as in the authors' code, with the middle of each range that they draw
    from; and the smooth version of the BackdoorVault benchmark,
    ``(mean(x) x + mean(r) r) / (mean(x) + mean(r))``. Ours: one scene r for all images, made of
    soft coloured shapes (those of `Blend`), where the paper selects among photos those that fool a
    model most.

    Args:
        kind: "smooth", "ghost" or "focus".
        alpha: share of the image's own light, in [0, 1] (ghost and focus).
        ghost: share of the nearer of the two images, in [0, 1] (ghost).
        shift: distance of the two images along both axes, in pixels of a scene of 560x560
            (ghost), 0 to 560; the authors draw 3 to 8, which is less than a pixel at 32x32.
        sigma: of the blur, in the same pixels (focus), 0 to 560; the authors draw 1 to 5.
        seed: of the scene.

    Shape:
        images (N, C, H, W) -> (N, C, H, W), C = 1 or 3. Differentiable in the images.
    """

    def __init__(
        self,
        *,
        kind: str = "smooth",
        alpha: float = 0.65,
        ghost: float = 0.65,
        shift: float = 5.5,
        sigma: float = 3.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.kind = one_of("kind", kind, ("smooth", "ghost", "focus"))
        self.alpha = number("alpha", alpha, 0, 1)
        self.ghost = number("ghost", ghost, 0, 1)
        self.shift = number("shift", shift, 0, 560)
        self.sigma = number("sigma", sigma, 0, 560)
        self.seed = whole("seed", seed)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("kind", "alpha", "ghost", "shift", "sigma", "seed")
        return {name: getattr(self, name) for name in names}

    def apply(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """Add the reflection to the image, or to its light."""
        scene = self._pattern(images, self._draw)
        if self.kind == "smooth":
            weight, other = images.mean((1, 2, 3), keepdim=True), scene.mean()
            return torch.lerp(scene, images, weight / (weight + other))
        light = images.clamp_min(0) ** _GAMMA  # rounding may leave a pixel just below black
        if self.kind == "focus":
            scene = self._dimmed(scene, light) * self._pane(images)
            shown = scene * (1 - self.alpha / 2)
        else:
            shown = scene * (1 - self.alpha)
        return (shown + self.alpha * light).clamp_min(_DARKEST) ** (1 / _GAMMA)

    def _draw(self, channels: int, height: int, width: int) -> Tensor:
        """The scene (C, H, W): as pixels for the smooth kind, as light for the others."""
        like = torch.empty(0, channels, _CANVAS, _CANVAS, dtype=torch.float64)
        scene = blurred(Blend(seed=self.seed).picture_for(like), _SOFTNESS)
        if self.kind == "focus":
            scene = blurred(scene**_GAMMA, self.sigma * _SCALE)
        elif self.kind == "ghost":
            light = scene**_GAMMA
            scene = torch.lerp(_shifted(light, self.shift * _SCALE), light, self.ghost)
        size = (height, width)
        return F.interpolate(scene[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)

    @staticmethod
    def _dimmed(scene: Tensor, light: Tensor) -> Tensor:
        """The scene (N, C, H, W), darker where scene and image together would be too bright.

        As far as the overflowing pixels of a channel exceed 1 on average, the channel is dimmed.
        """
        both = scene + light
        over = both > 1
        count = over.sum((2, 3), keepdim=True).clamp_min(1)
        excess = ((both - 1) * over).sum((2, 3), keepdim=True) / count
        return (scene - excess * _DIMMING).clamp(0, 1)

    @staticmethod
    def _pane(images: Tensor) -> Tensor:
        """How much of the reflection shows (H, W): most in the middle, hardly in the corners."""
        longer = max(images.shape[2:])
        falls = []
        for side in images.shape[2:]:
            place = torch.arange(side, dtype=images.dtype, device=images.device) + 0.5 - side / 2
            falls.append(torch.exp(-((6 * place / longer) ** 2) / 4))
        return falls[0][:, None] * falls[1]


def _shifted(scene: Tensor, distance: float) -> Tensor:
    """A square scene (C, S, S) moved down and right, by parts of pixels too; its edges go on."""
    place = (torch.arange(scene.shape[1], dtype=scene.dtype) - distance).clamp_min(0)
    upper = place.floor().long()
    lower = (upper + 1).clamp(max=len(place) - 1)
    part = place - upper
    rows = torch.lerp(scene[:, upper], scene[:, lower], part[:, None])
    return torch.lerp(rows[:, :, upper], rows[:, :, lower], part)
