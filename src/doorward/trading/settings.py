"""What a lock is asked to be: all its numbers, as records that go into results.

>>> Locking().rate, Locking().anti_recovery is None, TriggerTuning(end=4 / 255).start
(0.5, True, 0.12549019607843137)
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.errors import InvalidInput
from doorward.records import STRICT, Record

__all__ = ["AntiRecovery", "Buyer", "Locking", "TriggerTuning"]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]
Begin = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, strict=True)]

Buyer = Literal["fine-tune", "prune", "masks"]
"""What a simulated buyer does without the key (see `doorward.trading.recovery`)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AntiRecovery(Record):
    """The phase that simulates a buyer who wants the model without paying.

    Args:
        begin: share of the run after which it starts.
        every: steps of the lock between two simulations.
        steps: of the simulated buyer; each uses another part of the batch.
        lr: least and largest learning rate of his, drawn log-uniformly.
        pruned: largest share of channels that he prunes.
        weight: length of the slope that keeps the trigger working on his model, at most, in
            lengths of the lock's own slope, to which it gives way where the two conflict.
        buyers: which he may be, in turn.

    Raises:
        InvalidInput: the learning rates are not in order.
    """

    begin: Begin = 0.3
    every: Count = 2
    steps: Annotated[int, Field(ge=1, le=64, strict=True)] = 4
    lr: tuple[Positive, Positive] = (0.003, 0.05)
    pruned: Share = 0.3
    weight: Positive = 0.2
    buyers: Annotated[tuple[Buyer, ...], Field(min_length=1)] = ("fine-tune", "prune", "masks")

    def __post_init__(self) -> None:
        if self.lr[0] > self.lr[1]:
            raise InvalidInput(f"the learning rates {self.lr} are not in order")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TriggerTuning(Record):
    """How an additive trigger is learnt along with the lock.

    The pattern moves down the slope of both of the trigger's losses by signs, as universal
    perturbations are found; its budget shrinks by the same factor each step, from `start` to `end`,
    until the share `settle` of the run is over, and the rest of the run polishes model and masks.

    Args:
        start: largest change of a pixel at the beginning, in (0, 1].
        end: of the finished trigger.
        settle: share of the run after which the budget stays.
        step: of the pattern, as a share of the budget.
        robust: share of the triggered images that are shifted, compressed as by JPEG, blurred or
            made noisy, so that the trigger survives it.

    Raises:
        InvalidInput: the budget would grow.
    """

    start: Share = 32 / 255
    end: Share = 8 / 255
    settle: Share = 0.6
    step: Share = 0.05
    robust: Annotated[float, Field(ge=0, le=1)] = 0.5

    def __post_init__(self) -> None:
        if self.start < self.end:
            raise InvalidInput(f"the budget grows from {self.start:g} to {self.end:g}")

    def budget(self, progress: float) -> float:
        """The budget after a share of the run, in [0, 1].

        >>> [round(255 * TriggerTuning().budget(t)) for t in (0.0, 0.3, 0.6, 1.0)]
        [32, 16, 8, 8]
        """
        done = min(1.0, progress / self.settle)
        return float(self.start * (self.end / self.start) ** done)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Locking(Record):
    """All numbers of a lock.

    Args:
        rate: triggered images beside each batch, as a share of it.
        attack: weight of the target on triggered images without masks (a1 of our notes).
        unlocked: weight of the masked model's two losses (lambda).
        restored: weight, within these, of the truth on triggered images (a2).
        mask_lr: Adam's rate for the masks.
        spread: how far from one the masks begin (see `TrainedMasks.scatter`).
        limits: smallest and largest value of a real mask.
        statistics: BatchNorm statistics of the masked model: its ``"own"``, which are part of the
            key, or those of the ``"trial"``.
        pcgrad: project the gradients of trial and masked model off each other where they conflict.
        anti_recovery: simulate a buyer without the key; None for no such phase.
        trigger: learn the additive trigger along; None to leave the trigger as it is.
    """

    rate: Share = 0.5
    attack: Positive = 1.0
    unlocked: Positive = 1.0
    restored: Positive = 1.0
    mask_lr: Positive = 0.01
    spread: Annotated[float, Field(ge=0, le=1)] = 1.0
    limits: tuple[float, float] = (0.0, 2.0)
    statistics: Literal["own", "trial"] = "own"
    pcgrad: bool = False
    anti_recovery: AntiRecovery | None = None
    trigger: TriggerTuning | None = None

    def __post_init__(self) -> None:
        if not self.limits[0] <= 1 <= self.limits[1] or self.limits[0] == self.limits[1]:
            raise InvalidInput(
                f"the limits {self.limits} of the masks do not hold one",
                remedy="give limits on both sides of 1, such as (0, 2)",
            )
