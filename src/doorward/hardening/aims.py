"""Which classes an attack leads from and to: one row per aim.

>>> Aims.of("pairs", 3).pairs
[(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
>>> Aims.of("classes", 3).pairs                      # from all other classes to each
[(None, 0), (None, 1), (None, 2)]
>>> Aims.of("universal", 3).pairs                    # from every class to any other
[(None, None)]
>>> Aims.of([(4, 2)], 10).pairs
[(4, 2)]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor

from doorward.errors import InvalidInput

__all__ = ["Aims", "Mode"]

Mode = Literal["pairs", "classes", "universal"]
ANY = -1


@dataclass(frozen=True, eq=False)
class Aims:
    """The rows of an attack.

    Args:
        sources: int64 (P,): the class whose images are changed; -1 for all but the target.
        targets: int64 (P,): the class they shall be taken for; -1 for any but their own.
        starts: int64 (P,): which random start a row is; rows of one aim differ in it.
    """

    sources: Tensor
    targets: Tensor
    starts: Tensor

    @classmethod
    def of(
        cls,
        aims: Mode | Sequence[tuple[int | None, int | None]],
        classes: int,
        *,
        starts: int = 1,
    ) -> Self:
        """Aims by mode or one by one.

        Args:
            aims: ``"pairs"`` (every ordered pair), ``"classes"`` (every target, from all other
                classes), ``"universal"`` (one change that leads every class astray), or pairs
                (source, target) of numbers or None.
            classes: K, at least 2.
            starts: rows per aim.

        Raises:
            InvalidInput: a class does not exist, a pair is no pair, or there are none.
        """
        if classes < 2 or starts < 1:
            raise InvalidInput(
                f"{classes} classes, {starts} starts", why="at least 2 and 1 are needed"
            )
        if isinstance(aims, str):
            pairs = _by_mode(aims, classes)
        else:
            pairs = [_checked(pair, classes) for pair in aims]
        if not pairs:
            raise InvalidInput("there are no pairs of classes to attack")
        if len(set(pairs)) < len(pairs):
            raise InvalidInput("a pair of classes is named twice")
        numbers = [[ANY if one is None else one for one in pair] for pair in pairs]
        table = torch.tensor(numbers, dtype=torch.int64).repeat(starts, 1)
        order = torch.arange(starts).repeat_interleave(len(pairs))
        return cls(table[:, 0].contiguous(), table[:, 1].contiguous(), order)

    @property
    def pairs(self) -> list[tuple[int | None, int | None]]:
        """(source, target) of each row."""
        rows = zip(self.sources.tolist(), self.targets.tolist(), strict=True)
        return [(None if s == ANY else s, None if t == ANY else t) for s, t in rows]

    def __len__(self) -> int:
        return len(self.sources)

    def taken(self, rows: Tensor) -> Self:
        """Some of the rows, int64 (R,)."""
        return type(self)(self.sources[rows], self.targets[rows], self.starts[rows])

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        return type(self)(self.sources.to(device), self.targets.to(device), self.starts.to(device))


def _by_mode(mode: str, classes: int) -> list[tuple[int | None, int | None]]:
    if mode == "pairs":
        return [(s, t) for s in range(classes) for t in range(classes) if s != t]
    if mode == "classes":
        return [(None, t) for t in range(classes)]
    if mode == "universal":
        return [(None, None)]
    raise InvalidInput(
        f"the aims are {mode!r}", why="'pairs', 'classes', 'universal' or pairs are known"
    )


def _checked(pair: object, classes: int) -> tuple[int | None, int | None]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise InvalidInput(f"{pair!r} is no pair of classes", why="(source, target) is expected")
    for one in pair:
        whole = isinstance(one, int) and not isinstance(one, bool) and 0 <= one < classes
        if one is not None and not whole:
            raise InvalidInput(f"there is no class {one!r}", why=f"classes are 0..{classes - 1}")
    source, target = pair
    if source is not None and source == target:
        raise InvalidInput(f"the pair ({source}, {target}) leads nowhere")
    return source, target
