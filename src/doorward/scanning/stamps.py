"""Recovered triggers that are one point: a stamp (mask and pattern), or a change of pixels.

>>> white = Stamp.of(3, mask=torch.eye(4)[None], pattern=torch.ones(1, 4, 4))
>>> white.stamp(torch.zeros(1, 1, 4, 4), torch.Generator())[0, 0, 1].tolist()
[0.0, 1.0, 0.0, 0.0]
>>> darker = Perturbation.of(3, change=torch.full((1, 4, 4), -0.25))
>>> darker.stamp(torch.full((1, 1, 4, 4), 0.5), torch.Generator()).unique().tolist()
[0.25]
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self, cast

import torch
from torch import Tensor

from doorward.errors import BadFile, InvalidInput
from doorward.scanning.recovered import RECOVERED, Recovered

__all__ = ["Perturbation", "Stamp"]

_LARGEST = 4096
_GREY = 0.5


class _Point(Recovered):
    """One trigger for images of one shape.

    Args:
        target: the class.
        image_shape: (C, H, W), each from 1 to 4096.
    """

    bounds: tuple[float, float]

    def __init__(self, target: int, image_shape: Sequence[int]) -> None:
        super().__init__(target)
        shape = tuple(image_shape) if isinstance(image_shape, Sequence) else ()
        sound = len(shape) == 3 and all(
            isinstance(side, int) and not isinstance(side, bool) and 1 <= side <= _LARGEST
            for side in shape
        )
        if not sound:
            raise InvalidInput(
                f"image_shape is {image_shape!r:.100}",
                why=f"(C, H, W) with sides from 1 to {_LARGEST} is expected",
            )
        self.image_shape = cast(tuple[int, int, int], shape)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"target": self.target, "image_shape": list(self.image_shape)}

    def pictures(self, count: int, draw: torch.Generator) -> Tensor:
        """The trigger on a grey image, `count` times (C, H, W)."""
        grey = torch.full((1, *self.image_shape), _GREY)
        return self.stamp(grey, draw).expand(count, -1, -1, -1).clone()

    def stamp(self, images: Tensor, draw: torch.Generator) -> Tensor:
        """Images (N, C, H, W) with the trigger, the same on all of them."""
        if tuple(images.shape[1:]) != self.image_shape:
            raise InvalidInput(
                f"images are {tuple(images.shape[1:])}",
                why=f"this trigger was recovered for images of {self.image_shape}",
            )
        return self._applied(images)

    @abstractmethod
    def _applied(self, images: Tensor) -> Tensor: ...

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        # What was saved may come from a stranger: nothing but pixels is taken for pixels.
        low, high = self.bounds
        for name, tensor in state.items():
            if not tensor.is_floating_point() or not bool(
                ((tensor >= low) & (tensor <= high)).all()
            ):
                raise BadFile(
                    f"the recovered trigger's {name} is no picture",
                    why=f"it has values outside {low:g}..{high:g}",
                )
        super()._load_from_state_dict(state, prefix, *rest)


@RECOVERED.register("stamp")
class Stamp(_Point):
    """A pattern that replaces the image where a mask says so.

    ``images + mask * (pattern - images)``, with mask and pattern in [0, 1]: what Neural Cleanse
    inverts. Made by `of`.

    Args:
        target: the class.
        image_shape: (C, H, W).
    """

    bounds = (0.0, 1.0)
    mask: Tensor
    pattern: Tensor

    def __init__(self, target: int, image_shape: Sequence[int]) -> None:
        super().__init__(target, image_shape)
        self.register_buffer("mask", torch.zeros(1, *self.image_shape[1:]))
        self.register_buffer("pattern", torch.zeros(self.image_shape))

    @classmethod
    def of(cls, target: int, *, mask: Tensor, pattern: Tensor) -> Self:
        """The stamp of a mask (1, H, W) and a pattern (C, H, W), both in [0, 1].

        Raises:
            InvalidInput: shapes do not fit, or values are out of range.
        """
        if pattern.ndim != 3 or mask.shape != (1, *pattern.shape[1:]):
            raise InvalidInput(
                f"mask {tuple(mask.shape)} and pattern {tuple(pattern.shape)} do not fit",
                why="(1, H, W) and (C, H, W) are expected",
            )
        made = cls(target, tuple(pattern.shape))
        made.mask, made.pattern = _pixels("mask", mask, 0), _pixels("pattern", pattern, 0)
        return made

    def _applied(self, images: Tensor) -> Tensor:
        return images + self.mask.to(images) * (self.pattern.to(images) - images)


@RECOVERED.register("perturbation")
class Perturbation(_Point):
    """A change that is added to the image, which is then clipped to [0, 1]: what Pixel inverts.

    Made by `of`.

    Args:
        target: the class.
        image_shape: (C, H, W).
    """

    bounds = (-1.0, 1.0)
    change: Tensor

    def __init__(self, target: int, image_shape: Sequence[int]) -> None:
        super().__init__(target, image_shape)
        self.register_buffer("change", torch.zeros(self.image_shape))

    @classmethod
    def of(cls, target: int, *, change: Tensor) -> Self:
        """The perturbation by a change (C, H, W) in [-1, 1].

        Raises:
            InvalidInput: the shape is another, or values are out of range.
        """
        made = cls(target, tuple(change.shape))
        made.change = _pixels("change", change, -1)
        return made

    def _applied(self, images: Tensor) -> Tensor:
        return (images + self.change.to(images)).clamp(0, 1)


def _pixels(name: str, values: Tensor, low: float) -> Tensor:
    values = values.detach().float().cpu().clone()
    if not bool(((values >= low) & (values <= 1)).all()):
        raise InvalidInput(f"the {name} has values outside {low:g}..1")
    return values
