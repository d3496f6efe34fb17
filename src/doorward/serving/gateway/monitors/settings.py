"""Thresholds of the monitors.

>>> Monitors(drift=None).prada.delta
0.9
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.honeypot.defences import Prada
from doorward.records import STRICT, Record

__all__ = ["Drift", "Monitors", "Prada", "Share"]

Count = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Share(Record):
    """One class is answered much more often than in the reference.

    Args:
        rise: alarm when the share of a class is larger by this much (0.25: 10 % become 35 %).
        least: answers before the first test.
        window: most recent answers that are counted.
    """

    rise: Annotated[float, Field(gt=0, lt=1)] = 0.25
    least: Count = 200
    window: Count = 500


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Drift(Record):
    """Images, or the model's certainty about them, are on average unlike those of the reference.

    Args:
        deviations: alarm when the mean of a feature is this many standard deviations (of single
            images) away from the reference's mean.
        least: images before the first test.
        window: most recent images that are averaged.
    """

    deviations: Finite = 1.5
    least: Count = 200
    window: Count = 500


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Monitors(Record):
    """Which monitors watch, and from when on they alarm; None switches one off.

    `share` and `drift` compare with a `Reference` and are off without one.
    """

    prada: Prada | None = Field(default_factory=Prada)
    share: Share | None = Field(default_factory=Share)
    drift: Drift | None = Field(default_factory=Drift)
