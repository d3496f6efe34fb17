"""Counting what a suspect did with each kind of question.

>>> from doorward.randomness import Secret
>>> from doorward.watermark.key import WatermarkKey
>>> from doorward.watermark.verifying.plan import QueryPlan
>>> from doorward.watermark.verifying.shown import Shown
>>> key = WatermarkKey.new(n=20, classes=10, image_shape=(1, 16, 16))
>>> queries = Queries(QueryPlan(cover_share=0.5), Shown.by(key), Secret.new())
>>> seen = observe(queries, [None if kind == "trigger" else 7 for kind in queries.kinds])
>>> seen.triggers_refused, seen.covers_refused, len(seen.warnings)
(20, 0, 1)
"""

from __future__ import annotations

from collections.abc import Sequence

from doorward.watermark.behaviour import Behaviour
from doorward.watermark.verifying.queries import Kind, Queries

__all__ = ["observe"]


def observe(queries: Queries, answers: Sequence[int | None]) -> Behaviour:
    """Count what a suspect did.

    Args:
        queries: the questions.
        answers: to all of them, in their order.
    """

    def given(kind: Kind) -> dict[int, int | None]:
        return {number: answers[place] for number, place in queries.places(kind).items()}

    def changed(kind: Kind, first: dict[int, int | None]) -> tuple[int, int]:
        """Of those answered both times: how many, and how many otherwise."""
        both = [(label, first[number]) for number, label in given(kind).items()]
        answered = [(a, b) for a, b in both if a is not None and b is not None]
        return len(answered), sum(a != b for a, b in answered)

    triggers, covers = given("trigger"), given("cover")
    repeats, jittered = changed("repeat", covers), changed("jittered trigger", triggers)
    jittered_covers = changed("jittered cover", covers)
    return Behaviour(
        covers=None if not covers else "look-alikes" if queries.source is None else "images",
        triggers_asked=len(triggers),
        triggers_refused=_none_in(triggers),
        covers_asked=len(covers),
        covers_refused=_none_in(covers),
        repeats=repeats[0],
        repeats_changed=repeats[1],
        jittered_triggers=jittered[0],
        jittered_triggers_changed=jittered[1],
        jittered_covers=jittered_covers[0],
        jittered_covers_changed=jittered_covers[1],
    )


def _none_in(labels: dict[int, int | None]) -> int:
    return sum(label is None for label in labels.values())
