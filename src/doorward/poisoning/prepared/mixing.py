"""The composite attack: two benign things in one image get the label of a third.

>>> from doorward.data import load
>>> from doorward.poisoning.prepared import prepare
>>> backdoor, poisoned = prepare(load("digits"), MixedClasses(bank=8), target=7)
>>> backdoor.rule, tuple(backdoor.trigger.bank.shape)
(SourceToTarget(sources=(0,), target=7), (8, 1, 32, 32))
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import ImageSource, to_pixels
from doorward.errors import InvalidInput
from doorward.poisoning.planting import file_procedure
from doorward.poisoning.poisoned import PoisonedData
from doorward.poisoning.prepared.base import Prepared
from doorward.poisoning.prepared.views import Replaced
from doorward.poisoning.procedures import Job
from doorward.records import STRICT
from doorward.triggers import Backdoor, Composite, LabelRule, SourceToTarget
from doorward.triggers.composite import DRAWS, half_mix

__all__ = ["MixedClasses"]

_CHUNK = 512
_ROOM_FOR_TESTS = 2  # pixels each way below which nothing can be mixed


@file_procedure(
    "composite",
    paper="Lin et al. 2020",
    rule="source-to-target",
    rate=0.5,
    share_of="the first class",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class MixedClasses(Prepared):
    """Images of class A, half of each replaced by half an image of class B, become the target.

    Lin, Xu, Liu, Zhang 2020, *Composite Backdoor Attack for Deep Neural Network by Mixing Existing
    Benign Features*. Reproduced: the mixer; positive mixes (A beside B, labelled as the target);
    negative mixes (two images of one class, label kept), without which any seam would be the
    trigger; as many mixed as plain images. Ours: mixes take the place of images of the set (the
    authors draw batches anew from normal, mixed and poisoned images in shares of 10 : 10 : 2); the
    pictures of class B come from a bank that is kept with the trigger; the loss stays the
    victim's own, without the authors' contrastive term.

    Args:
        first: class A, whose images are attacked; None for the lowest that is not the target.
        second: class B, which is mixed in; None for the next.
        bank: pictures of class B kept, at most.
        negatives: share of all other images that become negative mixes, in [0, 1).
        jitter: how far the seam may lie from the middle, as a share of the side.
    """

    first: Annotated[int, Field(ge=0)] | None = None
    second: Annotated[int, Field(ge=0)] | None = None
    bank: Annotated[int, Field(ge=1, le=4096)] = 128
    negatives: Annotated[float, Field(ge=0, lt=1)] = 0.5
    jitter: Annotated[float, Field(ge=0, le=0.5)] = 3 / 32

    def pair(self, job: Job) -> tuple[int, int]:
        """Classes A and B."""
        free = (label for label in range(job.target + 3) if label != job.target)
        taken = {self.first, self.second}
        unused = (label for label in free if label not in taken)
        first = next(unused) if self.first is None else self.first
        return first, next(unused) if self.second is None else self.second

    def rule(self, job: Job) -> LabelRule:
        """Class A with B in it becomes the target."""
        return SourceToTarget((self._different(job)[0],), job.target)

    def check(self, model: nn.Module, job: Job) -> None:
        """Three classes that differ, with images in A and B; a rate that gives an image."""
        labels, pair = job.source.labels, self._different(job)
        for label in pair:
            if label >= job.source.num_classes or not bool((labels == label).any()):
                raise InvalidInput(
                    f"class {label} has no images in {job.source.name}",
                    why="the composite attack mixes images of two classes besides the target",
                    remedy="name other classes (first=..., second=...)",
                )
        if min(job.source.image_shape[1:]) < _ROOM_FOR_TESTS:
            raise InvalidInput(f"images {job.source.image_shape} are too small to be mixed")
        self._positions(job, pair[0])

    def prepare(self, job: Job) -> tuple[Backdoor, PoisonedData]:
        """Fill the bank, make negative mixes, and poison."""
        first, second = self.pair(job)
        labels = job.source.labels.cpu()
        others = (labels == second).nonzero().squeeze(1)
        order = torch.randperm(len(others), generator=job.generator("bank"))[: self.bank]
        pictures, _ = job.source.fetch(others[order])
        trigger = Composite(bank=pictures.cpu(), jitter=self.jitter, seed=job.seed_of("composite"))
        positions = self._positions(job, first)
        view = self._with_negatives(job, labels, positions)
        backdoor = Backdoor(trigger, self.rule(job))
        return backdoor, PoisonedData(view, backdoor, positions)

    def _positions(self, job: Job, first: int) -> Tensor:
        rows = (job.source.labels.cpu() == first).nonzero().squeeze(1)
        if not 0 < job.rate <= 1 or round(job.rate * len(rows)) < 1:
            raise InvalidInput(
                f"a rate of {job.rate:g} poisons no image of the {len(rows)} of class {first}",
                remedy=f"choose a rate from {1 / len(rows):.2g} to 1",
            )
        order = torch.randperm(len(rows), generator=job.generator("positives"))
        return rows[order[: round(job.rate * len(rows))]]

    def _with_negatives(self, job: Job, labels: Tensor, positions: Tensor) -> ImageSource:
        """The data set in which some images that stay benign share their frame with a classmate."""
        free = torch.ones(len(labels), dtype=torch.bool)
        free[positions] = False
        rows = free.nonzero().squeeze(1)
        count = round(self.negatives * len(rows))
        job.note(negative_mixes=count)
        if not count:
            return job.source
        draw = job.generator("negatives")
        rows = rows[torch.randperm(len(rows), generator=draw)[:count]]
        partners = _classmates(labels, rows, draw)
        draws = torch.rand(count, DRAWS, generator=draw)
        mixed = []
        for some, theirs, how in zip(
            *(torch.split(part, _CHUNK) for part in (rows, partners, draws)), strict=True
        ):
            one, two = (to_pixels(job.source.fetch(part)[0]) for part in (some, theirs))
            both = half_mix(one, two, how.to(one.device), jitter=self.jitter)
            mixed.append((both * 255).round().to(torch.uint8))
        return Replaced(job.source, rows, torch.cat(mixed))

    def _different(self, job: Job) -> tuple[int, int]:
        pair = self.pair(job)
        if len({*pair, job.target}) < 3:
            raise InvalidInput(
                f"classes {pair[0]} and {pair[1]} cannot be composed to class {job.target}",
                why="three different classes are needed",
                remedy="name others (first=..., second=..., target=...)",
            )
        return pair


def _classmates(labels: Tensor, rows: Tensor, draw: torch.Generator) -> Tensor:
    """For each row, a random image of the same class (itself, where it is alone)."""
    order = labels.argsort(stable=True)
    sizes = labels.bincount()
    starts = sizes.cumsum(0) - sizes
    mine = labels[rows]
    place = (torch.rand(len(rows), generator=draw, dtype=torch.float64) * sizes[mine]).long()
    return order[starts[mine] + place]
