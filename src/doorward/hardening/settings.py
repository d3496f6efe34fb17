"""How an attack on pairs of classes is searched.

>>> Settings(shrink=None, limits={"pixel": 2.0}).limits          # the strongest within a budget
{'pixel': 2.0}
>>> Settings(shrink="ssim").wanted                               # the smallest that succeeds
0.9
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.errors import InvalidInput
from doorward.hardening.measures import Measure
from doorward.records import STRICT, Record

__all__ = ["Settings"]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Settings(Record):
    """The numbers of a search.

    Args:
        shrink: measure to minimise among changes that succeed; None for the most successful
            change within the limits.
        limits: largest values of measures: the budget.
        wanted: share of the images that must be led astray.
        confidence: margin of the logits that is asked for; None for cross-entropy, as in Neural
            Cleanse and MOTH.
        epochs: passes over the attack's images; the weight of the measure is adapted after each.
        images: at most so many of each class.
        batch_size: images of each row per step.
        lr: of Adam, in raw units of the parameters.
        first_weight: of the measure, in its unit.
        patience: epochs of success (or failure) in a row before the weight rises (or falls).
        up: factor by which it rises; it falls by ``up ** 1.5``.
        stall: a row is left once its weight has risen and fallen and its change has not shrunk by
            1 % in so many epochs; None for never.
        held_out: share of the clean images that only serve to measure.
        images_at_once: rows times images in one forward pass; None for 512 on a CPU and 8,192 on
            a GPU. Rows beyond it are searched afterwards.
        precision: of the model in the search; what is reported is always measured in fp32.
    """

    shrink: Measure | None = "pixel"
    limits: dict[Measure, Positive] = field(default_factory=dict)
    wanted: Annotated[float, Field(gt=0, le=1)] = 0.9
    confidence: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = 1.0
    epochs: Count = 100
    images: Count = 64
    batch_size: Count = 64
    lr: Positive = 0.05
    first_weight: Positive = 0.1
    patience: Count = 5
    up: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 1.5
    stall: Count | None = 30
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.3
    images_at_once: Count | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    def __post_init__(self) -> None:
        if self.shrink is None and not self.limits:
            raise InvalidInput(
                "neither a measure to shrink nor a limit is given",
                why="an attack without either may erase the images",
                remedy="say shrink='pixel', or limits={'pixel': 2.0}",
            )

    @property
    def measured(self) -> tuple[Measure, ...]:
        """The measures that the search needs at every step."""
        return tuple(dict.fromkeys([*([self.shrink] if self.shrink else []), *self.limits]))
