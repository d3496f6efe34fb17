"""Does the suspect treat triggers differently from other questions? A warning, never a proof.

>>> seen = Behaviour(
...     covers="images",
...     triggers_asked=100, triggers_refused=40, covers_asked=100, covers_refused=1)
>>> seen.refusal_p < 1e-12, seen.warnings[0].partition(":")[0]
(True, 'The suspect refused 40 of 100 triggers and 1 of 100 covers')

Two exact tests of Fisher (1922): are triggers refused more often than covers, and does slight noise
change the answers to triggers more often than those to covers? Triggers *are* unusual images, and
an honest model that refuses or wavers on whatever is unusual shows the same differences. So a small
p-value here is a reason to look, with other covers or through another door, and says nothing about
whose model it is; only matches do (`doorward.watermark.verification`).
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.errors import InvalidInput
from doorward.records import STRICT, Record

__all__ = ["SUSPICIOUS", "Behaviour"]

SUSPICIOUS = 1e-3
"""A p-value at or below this is reported."""

Count = Annotated[int, Field(ge=0, lt=2**31, strict=True)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Behaviour(Record):
    """What a suspect did with the different kinds of questions.

    Attributes:
        covers: images of the suspect's task, look-alikes of the triggers, or no covers at all.
        triggers_asked: triggers asked about.
        triggers_refused: those that got no answer.
        covers_asked: covers asked about.
        covers_refused: those that got no answer.
        repeats: covers answered twice.
        repeats_changed: those answered differently the second time.
        jittered_triggers: triggers answered both with and without slight noise.
        jittered_triggers_changed: those answered differently with noise.
        jittered_covers: covers answered both with and without slight noise.
        jittered_covers_changed: those answered differently with noise.
        extra_classes: classes that the suspect knows beyond the key's.
    """

    covers: Literal["images", "look-alikes"] | None = None
    triggers_asked: Count
    triggers_refused: Count = 0
    covers_asked: Count = 0
    covers_refused: Count = 0
    repeats: Count = 0
    repeats_changed: Count = 0
    jittered_triggers: Count = 0
    jittered_triggers_changed: Count = 0
    jittered_covers: Count = 0
    jittered_covers_changed: Count = 0
    extra_classes: Count = 0

    def __post_init__(self) -> None:
        pairs = (
            (self.triggers_refused, self.triggers_asked),
            (self.covers_refused, self.covers_asked),
            (self.repeats_changed, self.repeats),
            (self.jittered_triggers_changed, self.jittered_triggers),
            (self.jittered_covers_changed, self.jittered_covers),
        )
        if any(some > every for some, every in pairs):
            raise InvalidInput("a part is larger than its whole")

    @cached_property
    def refusal_p(self) -> float:
        """One-sided p-value of "triggers are refused no more often than covers"; 1 without covers.

        >>> seen = Behaviour(triggers_asked=3, triggers_refused=3, covers_asked=3)
        >>> round(seen.refusal_p, 12)                                       # 1 / C(6, 3)
        0.05
        """
        return _fisher(
            (self.triggers_refused, self.triggers_asked), (self.covers_refused, self.covers_asked)
        )

    @cached_property
    def jitter_p(self) -> float:
        """One-sided p-value of "noise changes answers to triggers no more than those to covers"."""
        return _fisher(
            (self.jittered_triggers_changed, self.jittered_triggers),
            (self.jittered_covers_changed, self.jittered_covers),
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the verdict should know, in whole sentences."""
        found = []
        if self.refusal_p <= SUSPICIOUS:
            found.append(
                f"The suspect refused {self.triggers_refused} of {self.triggers_asked} triggers "
                f"and {self.covers_refused} of {self.covers_asked} covers: {self._reason()} "
                f"(Fisher's exact test: p = {self.refusal_p:.2g})."
            )
        if self.jitter_p <= SUSPICIOUS:
            found.append(
                f"Slight noise changed {self.jittered_triggers_changed} of "
                f"{self.jittered_triggers} answers to triggers and {self.jittered_covers_changed} "
                f"of {self.jittered_covers} to covers: the suspect may look for the triggers' very "
                f"pixels (Fisher's exact test: p = {self.jitter_p:.2g})."
            )
        if self.repeats_changed:
            found.append(
                f"The suspect answered {self.repeats_changed} of {self.repeats} covers differently "
                "when asked again: there is chance in its answers, and a second verification may "
                "count otherwise."
            )
        if self.extra_classes:
            found.append(
                f"The suspect knows {self.extra_classes} classes more than the key: answers beyond "
                "the key's count as none. It may be a model of another task, or refuse by a class "
                "of its own."
            )
        return tuple(found)

    def _reason(self) -> str:
        if self.covers == "look-alikes":
            return "it may know these very pictures"
        return "it may filter them, or whatever does not look like its task"


def _fisher(first: tuple[int, int], second: tuple[int, int]) -> float:
    """P-value that the share of the first (some, of all) is not above that of the second."""
    from scipy.stats import fisher_exact

    if not (first[0] and first[1] and second[1]):
        return 1.0
    table = [[first[0], first[1] - first[0]], [second[0], second[1] - second[0]]]
    return float(fisher_exact(table, alternative="greater").pvalue)
