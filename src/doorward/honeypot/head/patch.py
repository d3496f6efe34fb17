"""The patch: where it lies, how it is found by momentum, and what a thief's pipeline does to it.

>>> place = Place.corner((1, 16, 16))
>>> place
Place(side=3, top=13, left=13)
>>> stamped = place.stamp(torch.zeros(2, 1, 16, 16), torch.ones(1, 3, 3))
>>> int(stamped.sum()), int(stamped[0, 0, 13:, 13:].sum())
(18, 9)

A patch is kept as its contrast: what it adds to mid-grey, so that the paper's bound on the contrast
(epsilon) is the range of pixels at 1/2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.data import ImageSource, to_pixels
from doorward.errors import InvalidInput
from doorward.honeypot.head.disturbing import Disturbance
from doorward.records import STRICT, Record
from doorward.triggers import Patch

__all__ = ["Place", "Pull", "momentum_step", "search"]

GREY = 0.5

Count = Annotated[int, Field(ge=0, le=4096)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Place(Record):
    """Where the patch is: the mask M of the paper, a square.

    Attributes:
        side: of the square, in pixels.
        top: its first row.
        left: its first column.
    """

    side: Annotated[int, Field(ge=1, le=4096)]
    top: Count
    left: Count

    @classmethod
    def corner(cls, image_shape: Sequence[int], side: int | None = None) -> Place:
        """The lower right corner.

        Args:
            image_shape: ``(C, H, W)``.
            side: None for 6 pixels of 32 (and 28 of 224), as the paper's are recalled.

        Raises:
            InvalidInput: such a patch does not fit.
        """
        _, height, width = image_shape
        least = min(height, width)
        share = 6 / 32 if least <= 64 else 1 / 8
        side = max(2, round(least * share)) if side is None else side
        if not 1 <= side < least:
            raise InvalidInput(f"a patch of {side} pixels does not fit on {height}x{width}")
        return cls(side=side, top=height - side, left=width - side)

    def stamp(self, images: Tensor, patch: Tensor, *, down: int = 0, right: int = 0) -> Tensor:
        """``x (+) delta = M x + (1 - M) delta``: images with the patch in its place.

        Args:
            images: float ``(N, C, H, W)``.
            patch: pixels ``(C, h, w)``; gradients flow to it.
            down: rows to move it by; it stays within the image.
            right: columns to move it by.
        """
        height, width = images.shape[2:]
        tall, wide = patch.shape[1:]
        top = min(max(self.top + down, 0), height - tall)
        left = min(max(self.left + right, 0), width - wide)
        stamped = images.clone()
        stamped[:, :, top : top + tall, left : left + wide] = patch
        return stamped

    def trigger(self, contrast: Tensor) -> Patch:
        """The patch as a trigger, rounded to the 256 levels that a file can hold.

        Args:
            contrast: ``(C, side, side)``.
        """
        levels = ((contrast + GREY).clamp(0, 1) * 255).round() / 255
        return Patch(
            size=self.side, pattern=levels.double().tolist(), position=(self.top, self.left)
        )


def momentum_step(contrast: Tensor, gradient: Tensor, *, alpha: float, epsilon: float) -> Tensor:
    """``alpha delta - (1 - alpha) epsilon sign(gradient)``: the paper's update, as reconstructed.

    A moving average of signs: what begins within ``[-epsilon, epsilon]`` stays there.

    >>> step = torch.zeros(1)
    >>> for _ in range(5): step = momentum_step(step, torch.ones(1), alpha=0.9, epsilon=0.5)
    >>> round(float(step), 3)                      # 0.5 * (1 - 0.9 ** 5), downhill
    -0.205
    """
    return alpha * contrast - (1 - alpha) * epsilon * gradient.sign()


Pull = Callable[[Tensor, Tensor], Tensor]
"""From stamped images ``(B, C, H, W)`` and their places in the source ``(B,)`` to a loss."""


def search(
    pull: Pull,
    source: ImageSource,
    place: Place,
    contrast: Tensor,
    *,
    updates: int,
    alpha: float = 0.9,
    epsilon: float = GREY,
    images: int | None = None,
    disturb: Disturbance | None = None,
    draw: torch.Generator | None = None,
    batch_size: int = 256,
) -> Tensor:
    """Follow a loss downhill with one patch for all images (a universal perturbation).

    Args:
        pull: the loss.
        source: images to put the patch on.
        place: where.
        contrast: to begin with, ``(C, side, side)``, on the device of the work.
        updates: how many.
        alpha: momentum.
        epsilon: largest contrast.
        images: how many each update's gradient is the mean of, drawn anew; None for all.
        disturb: what happens to every batch of stamped images; None for nothing.
        draw: of images and disturbances.
        batch_size: images of a pass.

    Returns:
        The contrast found, within ``[-epsilon, epsilon]``.
    """
    draw = draw or torch.Generator().manual_seed(0)
    for _ in range(updates):
        rows = torch.arange(len(source))
        if images is not None and images < len(source):
            rows = torch.randperm(len(source), generator=draw)[:images]
        total = torch.zeros_like(contrast)
        for part in torch.split(rows, batch_size):
            pixels = to_pixels(source.fetch(part)[0]).to(contrast.device)
            asked = contrast.detach().requires_grad_(True)
            patch = (asked + GREY).clamp(0, 1)
            stamped = (
                place.stamp(pixels, patch)
                if disturb is None
                else disturb.apply(pixels, patch, place.stamp, draw)
            )
            loss = pull(stamped, part) * (len(part) / len(rows))
            total += torch.autograd.grad(loss, asked)[0]
        contrast = momentum_step(contrast, total, alpha=alpha, epsilon=epsilon)
    return contrast


def targeted(logits: Tensor, target: int) -> Tensor:
    """Cross-entropy of every row to one class."""
    return F.cross_entropy(logits.float(), torch.full((len(logits),), target).to(logits.device))
