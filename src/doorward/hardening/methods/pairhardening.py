"""The numbers that all methods share which train on changes of pairs of classes."""

from __future__ import annotations

from abc import ABC
from dataclasses import field
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.hardening.methods.base import Hardening
from doorward.hardening.methods.inverting import Searching
from doorward.records import STRICT
from doorward.removal.tuning import Count, Probability

__all__ = ["PairHardening", "ScheduledHardening"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PairHardening(Hardening, ABC):
    """Base of the methods that search changes for pairs and train on them.

    Args:
        searching: how changes are searched.
        first_steps: of the search when pairs were just chosen.
        next_steps: of it in each of their other training steps.
        period: training steps with the same pairs.
        useful: share of its images that a change must lead astray to be trained on.
        reach: by how much a change is stretched before it is trained on; 1 for not at all.

    All other fields are those of `Hardening`.
    """

    searching: Searching = field(default_factory=Searching)
    first_steps: Count = 40
    next_steps: Count = 5
    period: Count = 3
    useful: Probability = 0.5
    reach: Annotated[float, Field(ge=1, le=4)] = 1.0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ScheduledHardening(PairHardening, ABC):
    """Base of those with a warm-up over targets and MOTH's schedule of pairs.

    Args:
        pairs_at_once: unordered pairs, both ways each, in one forward pass.
        warm_steps: of the search of the universal changes, one per target; 0 for no warm-up.
        targets_at_once: universal changes in one forward pass.
        warm_period: training steps with them.
        explore: share of the pairs that are chosen at random.
        blend_steps: training steps after which only the growth of distances decides.
    """

    pairs_at_once: Count = 4
    warm_steps: Annotated[int, Field(ge=0)] = 40
    targets_at_once: Count = 10
    warm_period: Count = 3
    explore: Probability = 0.3
    blend_steps: Annotated[int, Field(ge=0)] = 100
