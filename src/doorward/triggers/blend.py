"""The blend trigger: one picture mixed faintly into the whole image.

>>> x = torch.zeros(1, 3, 32, 32)
>>> bool((Blend(alpha=0.2)(x) <= 0.2).all())
True
>>> bool(torch.equal(Blend(seed=1)(x), Blend(seed=2)(x)))
False

The picture is drawn from a seed at the size of the images, so no file is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.randomness import generator
from doorward.triggers.base import (
    LARGEST_SIDE,
    TRIGGERS,
    Trigger,
    as_channels,
    number,
    one_of,
    whole,
)

__all__ = ["Blend"]

_REGIONS, _WAVES = 6, 4  # colours of the picture, and waves that shape each colour's regions


@TRIGGERS.register(
    "blend", paper="Chen et al. 2017, Targeted Backdoor", scope="global", access="data"
)
class Blend(Trigger):
    """Mix a picture into the image: ``(1 - alpha) x + alpha p``.

    Chen et al. 2017, *Targeted Backdoor Attacks on Deep Learning Systems Using Data Poisoning*.
    Reproduced: the blended injection, with the uniform noise pattern. Their cartoon picture is
    replaced by one of our own, flat colours in curved regions, which is the same picture at any
    size.

    Args:
        alpha: share of the picture, in [0, 1].
        pattern: "picture" (drawn from the seed), "noise" (uniform, independent pixels), or
            "given" (the tensor `image`).
        seed: of the picture or noise.
        image: for "given": a float tensor (C, h, w) in [0, 1], C = 1 or 3, resized to the images.
            A shape (C, h, w) instead makes room for a tensor that `load_state_dict` fills in.

    Shape:
        images (N, C, H, W) -> (N, C, H, W), C = 1 or 3.

    >>> own = Blend(alpha=0.5, pattern="given", image=torch.ones(3, 4, 4))
    >>> own(torch.zeros(1, 1, 8, 8)).unique()
    tensor([0.5000])
    """

    image: Tensor | None

    def __init__(
        self,
        *,
        alpha: float = 0.2,
        pattern: str = "picture",
        seed: int = 0,
        image: Tensor | Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.alpha = number("alpha", alpha, 0, 1)
        self.pattern = one_of("pattern", pattern, ("picture", "noise", "given"))
        self.seed = whole("seed", seed)
        if (image is not None) != (pattern == "given"):
            raise InvalidInput(
                f"pattern {pattern!r} and image {type(image).__name__} do not fit",
                why="an image is given exactly when the pattern is 'given'",
            )
        self.register_buffer("image", None if image is None else _image(image))

    def config(self) -> dict[str, Any]:
        """The constructor's arguments; a given image is in `state_dict`, here is its shape."""
        shape = None if self.image is None else list(self.image.shape)
        return {"alpha": self.alpha, "pattern": self.pattern, "seed": self.seed, "image": shape}

    def apply(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """Mix the picture in."""
        return torch.lerp(images, self.picture_for(images), self.alpha)

    def picture_for(self, images: Tensor) -> Tensor:
        """The picture (C, H, W) that is mixed into images of this shape."""
        if self.image is not None:
            size = (images.shape[2], images.shape[3])
            fitted = F.interpolate(
                self.image[None].to(images), size, mode="bilinear", antialias=True
            )
            return as_channels(fitted[0].clamp(0, 1), images.shape[1])
        return self._pattern(images, self._draw)

    def _draw(self, channels: int, height: int, width: int) -> Tensor:
        draw = generator(self.seed, "blend", self.pattern)
        if self.pattern == "noise":
            return torch.rand((channels, height, width), generator=draw, dtype=torch.float64)
        return as_channels(_picture(height, width, draw), channels)


def _picture(height: int, width: int, draw: torch.Generator) -> Tensor:
    """Flat colours in curved regions, (3, height, width), the same picture at every size."""
    colours = torch.rand((_REGIONS, 3), generator=draw, dtype=torch.float64)
    colours[0], colours[1] = 0, 1  # so that there is contrast whatever the seed
    waves = torch.randn((_REGIONS, _WAVES, 2), generator=draw, dtype=torch.float64) * 1.5
    phase = torch.rand((_REGIONS, _WAVES, 1, 1), generator=draw, dtype=torch.float64)
    rows = (torch.arange(height, dtype=torch.float64) + 0.5) / height
    columns = (torch.arange(width, dtype=torch.float64) + 0.5) / width
    turns = waves[..., 0, None, None] * rows[:, None] + waves[..., 1, None, None] * columns + phase
    region = (2 * torch.pi * turns).sin().sum(1).argmax(0)
    return colours[region].permute(2, 0, 1).contiguous()


def _image(image: Tensor | Sequence[int]) -> Tensor:
    if isinstance(image, Tensor):
        if image.ndim != 3 or len(image) not in (1, 3) or not image.numel():
            raise InvalidInput(
                f"the image to blend has shape {tuple(image.shape)}",
                why="(C, h, w) with C = 1 or 3 is expected",
            )
        if not image.dtype.is_floating_point or not bool(((image >= 0) & (image <= 1)).all()):
            raise InvalidInput("the image to blend is not of floats in [0, 1]")
        return image.detach().clone()
    # Channels are checked first: nothing large is made for a shape that cannot be.
    if not isinstance(image, list | tuple) or len(image) != 3 or image[0] not in (1, 3):
        raise InvalidInput(f"{image!r} is no image shape", why="(C, h, w) with C = 1 or 3")
    shape = tuple(whole("image", side, 1, LARGEST_SIDE) for side in image)
    return _image(torch.zeros(shape))
