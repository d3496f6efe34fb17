"""The measuring attack: fixed, and independent of whatever a model was hardened with.

>>> attack = measuring("pixel")
>>> attack.settings.shrink, attack.starts, attack.space.families
('pixel', 3, ('colour', 'flow', 'kernel', 'additive'))
>>> measuring("patch").space is None
True

Its digest stands in every result; distances are comparable only where it is the same.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.errors import InvalidInput
from doorward.hardening.measures import MEASURES, Measure
from doorward.hardening.settings import Settings
from doorward.hardening.transforms import Space
from doorward.records import STRICT, Record

__all__ = ["MOTH", "Measuring", "measuring"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Measuring(Record):
    """A measuring attack.

    Args:
        kind: the measure that is the distance.
        space: of whole-image changes; None for patches.
        settings: of the search; it shrinks the kind.
        starts: random starts per pair; the smallest distance of them counts, as in MOTH.
    """

    kind: Measure
    space: Space | None
    settings: Settings
    starts: Annotated[int, Field(ge=1, le=100)] = 3

    def __post_init__(self) -> None:
        if self.settings.shrink != self.kind:
            raise InvalidInput(
                f"the search shrinks {self.settings.shrink}, the distance is {self.kind}",
                remedy="make them the same",
            )
        if (self.kind == "patch") != (self.space is None):
            raise InvalidInput(
                f"distance {self.kind!r} with space {self.space!r:.60}",
                why="a patch has no space of whole-image changes, all other kinds need one",
            )


SPACE = Space(kernel_grid=6, flow_grid=5, colour_knots=7, frequencies=12)
"""Other grids than the defaults that hardening uses: what is measured is not what is trained."""

MOTH = Measuring(
    kind="patch",
    space=None,
    settings=Settings(
        shrink="patch",
        lr=0.1,
        epochs=1000,
        images=100,
        batch_size=32,
        confidence=None,
        first_weight=1e-3,
        patience=10,
        stall=None,
    ),
)
"""MOTH's own schedule (Tao et al. 2022, their code): 1,000 passes over 100 images in batches of 32,
a first weight of 1e-3, 10 passes of patience, never an early end. Not taken over: the noise that
it adds at every improvement, and a value of 0 where nothing succeeded."""


def measuring(
    kind: Measure = "patch",
    *,
    families: tuple[Any, ...] | None = None,
    starts: int = 3,
    **changes: Any,
) -> Measuring:
    """The measuring attack for a kind of distance.

    Args:
        kind: one of `MEASURES`.
        families: of whole-image changes; by default colour, flow, kernel and additive.
        starts: random starts per pair.
        changes: of the search's settings; the result then has another digest.

    Raises:
        InvalidInput: the kind is unknown, or a number is out of range.
    """
    if kind not in MEASURES:
        raise InvalidInput(f"{kind!r} is no distance", why=f"known are {', '.join(MEASURES)}")
    if kind == "patch" and families is not None:
        raise InvalidInput("patches have no families", remedy="choose another kind of distance")
    rate = 0.1 if kind == "patch" else 0.05
    settings = Settings.from_dict({"shrink": kind, "lr": rate, **changes})
    space = SPACE
    if families is not None:
        space = Space.from_dict({**SPACE.to_dict(), "families": tuple(families)})
    return Measuring.from_dict(
        {
            "kind": kind,
            "space": None if kind == "patch" else dataclasses.asdict(space),
            "settings": dataclasses.asdict(settings),
            "starts": starts,
        }
    )
