"""What a model answers to images under waves: labels, and how often they are which class.

>>> import torch
>>> from doorward.models import as_black_box
>>> box = as_black_box(lambda images: (images.amax((1, 2, 3)) > 0.6).long())
>>> images = torch.full((2, 1, 8, 8), 0.5)
>>> told = ask(box, images, [(2, 0)], (0.05, 0.2), classes=2)
>>> told.clean, told.waved
((0, 0), ((0, 0, 1, 1),))
>>> hits(told, truth=(0, 0), classes=2, amplitudes=2)
[[0, 2]]
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.honeypot.lean.menu import waved
from doorward.models import BlackBox
from doorward.records import STRICT, Record

__all__ = ["Told", "ask", "curve", "hits", "join"]

Labels = tuple[Annotated[int, Field(ge=0, strict=True)], ...]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Told(Record):
    """A model's labels.

    Attributes:
        clean: of the images as they are, n of them.
        waved: for each wave the labels of all images at every amplitude, amplitudes slowest.
    """

    clean: Annotated[Labels, Field(max_length=2**20)]
    waved: Annotated[tuple[Labels, ...], Field(max_length=4096)]


def ask(
    box: BlackBox,
    images: Tensor,
    waves: Sequence[tuple[int, int]],
    amplitudes: Sequence[float],
    *,
    classes: int,
) -> Told:
    """Ask a model about images without and with every wave, waves in an order nobody can foresee.

    Args:
        box: the model; only its labels are used.
        images: float ``(n, C, H, W)`` in [0, 1].
        waves: (across, down) of each.
        amplitudes: of the waves.
        classes: K that it must have.

    Raises:
        ModelUnsuitable: it has other classes, or answers nonsense.
        InvalidInput, EndpointFailed: as the box does.
    """
    clean = _labels(box, images, classes)
    order = list(range(len(waves)))
    random.SystemRandom().shuffle(order)
    told: dict[int, tuple[int, ...]] = {}
    for place in order:
        told[place] = _labels(box, waved(images, waves[place], amplitudes), classes)
    return Told(clean=clean, waved=tuple(told[place] for place in range(len(waves))))


def join(first: Told | None, second: Told, amplitudes: int) -> Told:
    """The answers to some images and to further ones, as if all had been asked about at once."""
    if first is None:
        return second
    rows = []
    for before, after in zip(first.waved, second.waved, strict=True):
        parts = [torch.tensor(part).view(amplitudes, -1) for part in (before, after)]
        rows.append(tuple(torch.cat(parts, dim=1).flatten().tolist()))
    return Told(clean=first.clean + second.clean, waved=tuple(rows))


def hits(told: Told, truth: Sequence[int], *, classes: int, amplitudes: int) -> list[list[int]]:
    """How often each wave got each class, over all images and amplitudes.

    Images that are of the class, or that the model puts there without the wave, are not counted.

    Returns:
        ``[wave][class]``.

    Raises:
        InvalidInput: the numbers of answers do not fit.
    """
    return [
        [int(count) for count in row.sum(0)] for row in _table(told, truth, classes, amplitudes)
    ]


def curve(
    told: Told, truth: Sequence[int], targets: Sequence[int], *, classes: int, amplitudes: int
) -> tuple[float, ...]:
    """Success at each amplitude, the mean over waves: the share of countable images that got there.

    Args:
        told: the answers to the waves of a key, in its order.
        truth: true labels of the images.
        targets: the key's class of each wave.
        classes: K.
        amplitudes: how many.
    """
    table = _table(told, truth, classes, amplitudes)
    shares = torch.zeros(amplitudes, dtype=torch.float64)
    clean, labels = torch.tensor(told.clean), torch.tensor(list(truth))
    for row, target in zip(table, targets, strict=True):
        counted = int(((labels != target) & (clean != target)).sum())
        shares += row[:, target].double() / max(counted, 1)
    return tuple((shares / len(targets)).tolist())


def _table(told: Told, truth: Sequence[int], classes: int, amplitudes: int) -> list[Tensor]:
    """For each wave, hits ``(amplitude, class)``."""
    count = len(told.clean)
    fits = len(truth) == count and all(len(row) == count * amplitudes for row in told.waved)
    known = [*told.clean, *truth, *(label for row in told.waved for label in row)]
    if not fits or not count or max(known) >= classes:
        raise InvalidInput("the answers do not fit the images, amplitudes and classes")
    taken = torch.zeros(count, classes, dtype=torch.bool)
    rows = torch.arange(count)
    for labels in (told.clean, truth):
        taken[rows, torch.tensor(list(labels))] = True
    result = []
    for row in told.waved:
        given = torch.tensor(row).view(amplitudes, count)
        marks = torch.nn.functional.one_hot(given, classes)
        result.append((marks * ~taken[None]).sum(1))
    return result


def _labels(box: BlackBox, images: Tensor, classes: int) -> tuple[int, ...]:
    answers = box.labels(images)
    known = box.num_classes
    if known is not None and known != classes:
        raise ModelUnsuitable(f"the model has {known} classes", why=f"the claim is about {classes}")
    if answers.shape != (len(images),) or int(answers.min()) < 0 or int(answers.max()) >= classes:
        raise ModelUnsuitable(
            "the model's answers are no labels of the claim's classes",
            why=f"{len(images)} labels from 0 to {classes - 1} are expected",
        )
    return tuple(int(label) for label in answers)
