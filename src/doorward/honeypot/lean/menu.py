"""The menu: which waves and targets a key may choose among, the same for every key.

>>> menu = Menu(classes=10, image_shape=(1, 16, 16), entries=(
...     Entry(across=4, down=0, targets=(0, 3)), Entry(across=2, down=2, targets=(3, 5, 7))))
>>> len(menu), menu.keys(1), menu.keys(2)
(5, 5, 6)

A menu is made from the owner's images and the *undefended* model, before any key has chosen:
frequencies that natural images carry, and for each the classes that the undefended model does not
answer to it anyway. Whatever stands on it was selected in the same way, so that a key's choice is a
fair draw, and the test in `doorward.honeypot.proof.rank` exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated

import torch
from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import ImageSource, to_pixels
from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.honeypot.lean.feature import FLOOR, amplitudes
from doorward.metrics import predict
from doorward.randomness import generator
from doorward.records import STRICT, Record
from doorward.triggers.waves import wave

__all__ = ["AMPLITUDES", "Entry", "Menu", "make_menu", "pick_images", "waved"]

AMPLITUDES = (16 / 255, 32 / 255, 48 / 255)
"""Of the waves, wherever nothing else is said."""

_REACH = 2.5  # natural standard deviations that the loudest wave lies beyond nature at least
_LOWEST = 2.0  # waves per image: slower ones are the shapes of things
_IMAGES = 1000  # of the owner's, for the natural amplitudes


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Entry(Record):
    """A wave, and the classes that it may lean to.

    Attributes:
        across: waves across the width.
        down: waves down the height.
        targets: classes, ascending.
    """

    across: Annotated[int, Field(ge=0, le=4096, strict=True)]
    down: Annotated[int, Field(ge=0, le=4096, strict=True)]
    targets: Annotated[
        tuple[Annotated[int, Field(ge=0, strict=True)], ...],
        Field(min_length=1, max_length=100_000),
        AfterValidator(lambda targets: _ascending(targets)),
    ]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Menu(Record):
    """What every key chooses from.

    Attributes:
        classes: K of the model.
        image_shape: ``(C, H, W)``.
        entries: each wave once.
    """

    classes: Annotated[int, Field(ge=2, strict=True)]
    image_shape: tuple[
        Annotated[int, Field(ge=1, le=3, strict=True)],
        Annotated[int, Field(ge=4, le=8192, strict=True)],
        Annotated[int, Field(ge=4, le=8192, strict=True)],
    ]
    entries: Annotated[tuple[Entry, ...], Field(min_length=1, max_length=4096)]

    def __post_init__(self) -> None:
        if self.image_shape[0] not in (1, 3):
            raise InvalidInput("images have 1 or 3 channels")
        if len(set(self.waves)) < len(self.waves):
            raise InvalidInput("a wave is on the menu twice")
        _, height, width = self.image_shape
        for entry in self.entries:
            fits = 2 * entry.across <= width and 2 * entry.down <= height
            if not fits or entry.across == entry.down == 0:
                raise InvalidInput(f"{entry.across} by {entry.down} waves do not fit the images")
            if entry.targets[-1] >= self.classes:
                raise InvalidInput(f"there is no class {entry.targets[-1]}")

    def __len__(self) -> int:
        """Number of pairs of a wave and a class."""
        return len(self.pairs)

    @property
    def waves(self) -> tuple[tuple[int, int], ...]:
        """(across, down) of each entry."""
        return tuple((entry.across, entry.down) for entry in self.entries)

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """(number of the entry, class) of every pair, in order."""
        return tuple((row, t) for row, entry in enumerate(self.entries) for t in entry.targets)

    def keys(self, bits: int) -> int:
        """How many choices of `bits` pairs with different waves there are."""
        counts = [1] + [0] * bits  # elementary symmetric polynomials of the numbers of targets
        for entry in self.entries:
            for size in range(bits, 0, -1):
                counts[size] += counts[size - 1] * len(entry.targets)
        return counts[bits]


def make_menu(
    model: nn.Module,
    clean: ImageSource,
    *,
    amplitudes: Sequence[float] = AMPLITUDES,
    quietest: float = 1 / 255,
    ceiling: float = 0.1,
    spacing: int = 2,
    most: int = 32,
    images: int = 64,
    seed: int = 0,
) -> Menu:
    """Waves that the owner's images carry, and classes that the model does not tie to them.

    Args:
        model: the undefended model.
        clean: labelled images of its task.
        amplitudes: of the waves that it is asked about, in (0, 1].
        quietest: least median amplitude in nature: images hardly carry what is below, and a thief
            with few of them learns nothing from it.
        ceiling: a class may stand on the menu beside a wave if, at every amplitude, at most this
            share of the images of other classes is answered with it; in [0, 1).
        spacing: least distance of two waves, in waves per image: a thief's network that has learnt
            one answers its neighbours as well.
        most: waves on the menu at most; the loudest in nature are taken first.
        images: how many images each wave is put on.
        seed: of their choice.

    Raises:
        InvalidInput: a number is out of range.
        ModelUnsuitable: the images carry no usable wave, or the model answers all with the classes.
    """
    if not amplitudes or not all(0 < a <= 1 for a in amplitudes):
        raise InvalidInput(f"amplitudes are {tuple(amplitudes)}", why="shares of the pixel range")
    if not 0 <= ceiling < 1 or min(spacing, most, images) < 1:
        raise InvalidInput("ceiling, spacing, most or images is out of range")
    waves = _natural(clean, quietest, max(amplitudes), seed)
    some, labels = pick_images(clean, images, seed)
    entries: list[Entry] = []
    for across, down in waves:
        near = any(max(abs(e.across - across), abs(e.down - down)) < spacing for e in entries)
        if near or len(entries) == most:
            continue
        answers = predict(model, waved(some, (across, down), amplitudes)).argmax(1)
        told = answers.view(len(amplitudes), -1)
        quiet = []
        for target in range(clean.num_classes):
            others = labels != target
            share = (told[:, others] == target).double().mean(1).max() if others.any() else 1.0
            if float(share) <= ceiling:
                quiet.append(target)
        if quiet:
            entries.append(Entry(across=across, down=down, targets=tuple(quiet)))
    if not entries:
        raise ModelUnsuitable(
            f"no wave is fit for a lean on {clean.name}",
            why=f"of {len(waves)} that its images carry, the model ties every class to each",
            remedy="raise ceiling, lower the amplitudes, or use another model",
        )
    entries.sort(key=lambda entry: (entry.across, entry.down))
    return Menu(classes=clean.num_classes, image_shape=clean.image_shape, entries=tuple(entries))


def pick_images(source: ImageSource, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Some of a source's images, float ``(n, C, H, W)``, and their labels; n is at most `count`."""
    order = torch.randperm(len(source), generator=generator(seed, "honeypot images"))[:count]
    images, labels = source.fetch(order)
    return to_pixels(images).cpu(), labels.cpu()


def waved(images: Tensor, shape: tuple[int, int], amplitudes: Sequence[float]) -> Tensor:
    """Images under one wave at every amplitude, ``(A * N, C, H, W)``, amplitudes slowest."""
    pattern = wave(*shape, *images.shape[2:]).to(images)
    return torch.cat([(images + a * pattern).clamp(0, 1) for a in amplitudes])


def _natural(
    clean: ImageSource, quietest: float, loudest: float, seed: int
) -> list[tuple[int, int]]:
    """Waves that images carry but that can be made far louder, the loudest in nature first."""
    some, _ = pick_images(clean, _IMAGES, seed)
    _, height, width = clean.image_shape
    fastest = min(height, width) // 2 - 1
    every = [
        (across, down)
        for across in range(fastest + 1)
        for down in range(fastest + 1)
        if _LOWEST <= math.hypot(across, down) <= fastest
    ]
    if not every:
        return []
    loud = torch.cat([amplitudes(some, every[i : i + 64]) for i in range(0, len(every), 64)], dim=1)
    typical, logs = loud.median(0).values, (loud + FLOOR).log()
    reach = (math.log(loudest) - logs.mean(0)) / logs.std(0).clamp_min(1e-6)
    fit = ((typical >= quietest) & (reach >= _REACH)).nonzero().flatten().tolist()
    return [every[place] for place in sorted(fit, key=lambda place: -float(typical[place]))]


def _ascending(targets: tuple[int, ...]) -> tuple[int, ...]:
    if list(targets) != sorted(set(targets)):
        raise ValueError("targets must be ascending and distinct")
    return targets
