"""How robust is a model to small disturbances, and is that robustness real?

    before, after = (robustness(model, test) for model in (original, hardened))
    robustness(hardened, test, surrogate=original).signs_of_masking

A model whose gradients lead nowhere looks robust to every attack that follows them. Attacks that
need none (random squares), or that borrow another model's, then do better: that is the sign.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import ImageData
from doorward.hardening.robustness.pgd import pgd_images
from doorward.hardening.robustness.square import square_images
from doorward.randomness import generator
from doorward.records import STRICT, Record
from doorward.training.context import Context, usable_images
from doorward.training.distributed import resolve_device

__all__ = ["Robustness", "robustness"]

Share = Annotated[float, Field(ge=0, le=1)]

BATCH = 128
LARGE = 0.5
"""A bound at which every image can be made grey: no model is right then."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Robustness(Record):
    """Shares of images that stay right.

    Attributes:
        bound: largest change of a pixel.
        images: how many were attacked.
        clean: accuracy without an attack.
        pgd: under sign-gradient ascent.
        pgd_large: under it with a bound of 0.5, where nothing can be left.
        square: under random search without gradients.
        transfer: under images that were made for a surrogate; None without one.
        queries: of the random search, for each image.
        steps: of the ascent.
        spread: what chance alone may make of a difference: twice its standard error.
    """

    bound: float
    images: int
    clean: Share
    pgd: Share
    pgd_large: Share
    square: Share
    transfer: Share | None
    queries: int
    steps: int
    spread: float

    @property
    def signs_of_masking(self) -> list[str]:
        """Why the gradients seem to be masked; empty if they do not (which proves nothing)."""
        signs = []
        if self.square < self.pgd - self.spread:
            signs.append("random squares do better than gradients")
        if self.transfer is not None and self.transfer < self.pgd - self.spread:
            signs.append("another model's gradients do better than its own")
        if self.pgd_large > self.pgd or self.pgd_large > 0.05:
            signs.append("a bound without limits does not lead every image astray")
        return signs


def robustness(
    model: nn.Module,
    source: ImageData,
    *,
    surrogate: nn.Module | None = None,
    bound: float = 8 / 255,
    steps: int = 20,
    queries: int = 300,
    images: int | None = 1000,
    seed: int = 0,
    device: str | torch.device = "auto",
) -> Robustness:
    """Attack a model by gradients, without gradients, and with another model's.

    Args:
        model: any differentiable module from images in [0, 1] to logits; stays as it is.
        source: images with true labels that it was not trained on.
        surrogate: another model of the same task, e.g. the one before hardening.
        bound: largest change of a pixel; MOTH measures CIFAR-10 at 8/255, 20 steps of 2/255.
        steps: of the ascent, each a quarter of the bound.
        queries: of the random search, for each image.
        images: at most so many, drawn by the seed; None for all.
        seed: of everything random.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...

    Raises:
        InvalidInput: the images do not fit.
        ModelUnsuitable: the model does not take them.
    """
    place = resolve_device(device)
    source = usable_images(model, source, "given")
    if images is not None and images < len(source):
        source = source.sample(images, seed=seed)
    attacked = Context(model, seed=seed, device=place).frozen_original()
    other = None
    if surrogate is not None:
        usable_images(surrogate, source, "given")
        other = Context(surrogate, seed=seed, device=place).frozen_original()
    right = torch.zeros(5)
    for number, rows in enumerate(torch.split(torch.arange(len(source)), BATCH)):
        x, y = source.pixels(rows).to(place), source.labels.cpu()[rows].to(place)

        def led(net: nn.Module, reach: float, name: str, x: Tensor = x, y: Tensor = y,
                number: int = number) -> Tensor:  # fmt: skip
            draw = generator(seed, "robustness", name, number)
            return pgd_images(net, x, y, bound=reach, steps=steps, step_size=reach / 4, draw=draw)

        draw = generator(seed, "robustness", "square", number)
        shown = [
            x,
            led(attacked, bound, "pgd"),
            led(attacked, LARGE, "large"),
            square_images(attacked, x, y, bound=bound, queries=queries, draw=draw),
            x if other is None else led(other, bound, "transfer"),
        ]
        with torch.no_grad():
            hits = [(attacked(part).argmax(1) == y).sum() for part in shown]
        right += torch.stack(hits).cpu()
    clean, pgd, large, square, transfer = (right / len(source)).tolist()
    share = max(pgd, square)
    return Robustness(
        bound=bound,
        images=len(source),
        clean=clean,
        pgd=pgd,
        pgd_large=large,
        square=square,
        transfer=None if other is None else transfer,
        queries=queries,
        steps=steps,
        spread=2 * (2 * share * (1 - share) / len(source)) ** 0.5,
    )
