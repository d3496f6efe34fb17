"""MESA's baseline: single triggers, each found by gradient descent on its pixels.

    points = reverse_points(model, clean, target=3, count=10)
    points.success                                # of each, where it was searched
    points.only([0]), points                      # one restart alone, or all ten together

A point is a distribution of one trigger, and ten restarts one of ten, to be stamped and unlearnt
like any other.
"""

from __future__ import annotations

from typing import Annotated, Any, cast

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.data import Batch, ImageData
from doorward.errors import InvalidInput
from doorward.models.layers import Behind
from doorward.randomness import generator
from doorward.records import STRICT, Record
from doorward.scanning.mesa.reference.constants import Count, Decay, Positive, reachable
from doorward.scanning.mesa.reference.pointset import Points
from doorward.scanning.mesa.stamping import paste, random_places
from doorward.training import Recipe
from doorward.training.context import Context, Labels, usable_images
from doorward.training.distributed import resolve_device

__all__ = ["PointSearch", "reverse_points"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PointSearch(Record):
    """Constants of the baseline; the defaults are those of the authors' notebook.

    Args:
        size: side of the patch in pixels; the method is told the attacker's.
        images: clean images to search with, at most; the notebook takes eleven batches.
        batch_size: images per step.
        passes: over these images; points are clipped to [0, 1] after each.
        lr: of SGD, in the units of normalised images.
        momentum: of SGD.
        last_offset: whether the last row and column can be reached.
    """

    size: Count = 3
    images: Count = 1100
    batch_size: Count = 100
    passes: Annotated[int, Field(ge=1)] = 5
    lr: Positive = 0.1
    momentum: Decay = 0.9
    last_offset: bool = False


def reverse_points(
    model: nn.Module,
    clean: ImageData,
    *,
    target: int,
    count: int = 10,
    search: PointSearch | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
    labels: Labels = "given",
    progress: bool = False,
) -> Points:
    """Search point triggers of one class, several restarts at once.

    Args:
        model: any module from images in [0, 1] to logits; it is not changed.
        clean: clean images.
        target: the class.
        count: restarts; each has its own beginning and its own places.
        search: constants; None for the notebook's.
        seed: of everything random.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        labels: ``"given"``, or ``"model"`` to do without labels.
        progress: draw a progress bar.

    Returns:
        The points, on the CPU, with the share of the images of other classes that each sends to
        the class in the last pass.

    Raises:
        InvalidInput: the class, the count or the images do not fit.
        ModelUnsuitable: the model does not take the images.

    Qiao et al. (2019), the authors' notebook: cross-entropy towards the class, SGD on the pixels of
    one patch, opaque, at one random place per batch. Ours: all restarts in one forward pass, which
    leaves each of them as it would be alone.
    """
    search = PointSearch() if search is None else search
    clean = usable_images(model, clean, labels)
    channels, height, width = clean.image_shape
    if not 0 <= target < clean.num_classes:
        raise InvalidInput(
            f"there is no class {target}", why=f"classes are 0..{clean.num_classes - 1}"
        )
    if type(count) is not int or count < 1 or search.size > min(height, width):
        raise InvalidInput(
            f"{count!r} points of {search.size} pixels in images of {height}x{width}",
            why="at least one is needed, and it must fit",
        )
    place = resolve_device(device)
    context = Context(model, seed=seed, device=place, progress=progress, room="scanning")
    work = clean.sample(min(search.images, len(clean)), seed=context.seed_of("point images"))
    points = _Points(context.frozen_original(), search, count, channels, context)
    points.to(place)
    recipe = Recipe(
        epochs=float(search.passes),
        batch_size=min(search.batch_size, len(work)),
        lr=search.lr,
        momentum=search.momentum,
        nesterov=False,
        schedule="constant",
        divergence=1e9,
        seed=context.seed_of("points"),
    )
    descent = _Descent(search, target, count, context.seed_of("point places"))
    context.fit("points", points, descent, work, recipe)
    points.clip()
    patches = points.pixels().detach().cpu().clamp(0, 1)
    return Points.of(target, patches, success=descent.success.cpu().tolist())


class _Points(Behind):
    """The frozen model behind K trainable patches, kept in the units of normalised images."""

    std: Tensor

    def __init__(
        self, model: nn.Module, search: PointSearch, count: int, channels: int, context: Context
    ) -> None:
        super().__init__(model)
        known = getattr(model, "std", None)
        fits = isinstance(known, tuple) and len(known) == channels
        # The notebook descends on normalised pixels. Subtracting the mean changes no step, dividing
        # by the deviation does; a model that does not tell its own is taken to have the zoo's.
        std = torch.tensor(cast(Any, known) if fits else (0.25,) * channels)
        self.register_buffer("std", std.view(-1, 1, 1))
        size = search.size
        first = [
            torch.rand(channels, size, size, generator=context.generator("point", number))
            for number in range(count)
        ]
        self.raw = nn.Parameter(torch.stack(first) / self.std)

    def pixels(self) -> Tensor:
        """(K, C, s, s)."""
        return self.raw * self.std

    @torch.no_grad()
    def clip(self) -> None:
        """Back into [0, 1]."""
        self.raw.copy_((self.raw * self.std).clamp(0, 1) / self.std)


class _Descent:
    """Cross-entropy of every point on every image, summed over the points: K independent runs."""

    def __init__(self, search: PointSearch, target: int, count: int, seed: int) -> None:
        self.search, self.target, self.seed, self.epoch = search, target, seed, 0
        self.hits, self.shown = torch.zeros(count), torch.zeros(())

    @property
    def success(self) -> Tensor:
        """Of each point in the pass under way, (K,)."""
        return self.hits / self.shown.clamp_min(1)

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        points = cast(_Points, model)
        if batch.epoch > self.epoch:
            self.epoch = batch.epoch
            points.clip()
            self.hits, self.shown = torch.zeros_like(self.hits), torch.zeros_like(self.shown)
        pixels, (size, height, width) = points.pixels(), (len(batch), *batch.images.shape[2:])
        count = len(pixels)
        last = self.search.last_offset
        free = reachable(height, width, self.search.size, last_offset=last)
        places = [
            random_places(1, free, generator(self.seed, number, batch.step))
            for number in range(count)
        ]
        rows, columns = (
            torch.cat(axis).repeat_interleave(size) for axis in zip(*places, strict=True)
        )
        images = batch.images.repeat(count, 1, 1, 1)
        logits = points(paste(images, pixels.repeat_interleave(size, 0), rows, columns)).float()
        targets = torch.full((len(logits),), self.target, device=logits.device)
        losses = F.cross_entropy(logits, targets, reduction="none").view(count, size).mean(1)
        others = batch.labels != self.target
        hits = ((logits.detach().argmax(1) == self.target).view(count, size) & others).sum(1)
        self.hits = self.hits.to(hits.device) + hits
        self.shown = self.shown.to(hits.device) + others.sum()
        return losses.sum(), {"success": self.success.max()}
