"""How a suspect is asked: what else beside the triggers, and how fast.

>>> QueryPlan(cover_share=0.5).questions(100), GUARDED.questions(100)
(200, 260)

`doorward.watermark.verifying.queries` says what each kind of question is good for.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.records import STRICT, Record

__all__ = ["GUARDED", "QueryPlan"]

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class QueryPlan(Record):
    """How a suspect is asked; the defaults ask for each trigger once, and nothing else.

    Attributes:
        cover_share: share of covers among triggers and covers, 0 to 0.95.
        repeat_share: share of the covers that are asked about a second time, unchanged: whoever
            answers differently rolls dice.
        jitter_share: share of the triggers and of the covers that are asked about a second time
            with slight noise: whoever looks for exact pictures answers differently.
        jitter: largest change of a pixel by that noise, in steps of 1/255.
        batch_size: images per request.
        per_second: images per second at most; None for no limit.
    """

    cover_share: Annotated[float, Field(ge=0, le=0.95)] = 0.0
    repeat_share: Share = 0.0
    jitter_share: Share = 0.0
    jitter: Annotated[int, Field(ge=1, le=32, strict=True)] = 2
    batch_size: Annotated[int, Field(ge=1, le=4096, strict=True)] = 64
    per_second: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None

    def covers(self, triggers: int) -> int:
        """How many covers go with so many triggers.

        >>> QueryPlan(cover_share=0.75).covers(100)
        300
        """
        return round(triggers * self.cover_share / (1 - self.cover_share))

    def questions(self, triggers: int) -> int:
        """How many questions there are in all."""
        covers = self.covers(triggers)
        again = (
            round(self.repeat_share * covers),
            round(self.jitter_share * triggers),
            round(self.jitter_share * covers),
        )
        return triggers + covers + sum(again)


GUARDED = QueryPlan(cover_share=0.5, repeat_share=0.2, jitter_share=0.2)
"""For suspects behind an interface: as many covers as triggers, a fifth of each asked again."""
