"""What a trace found, as a record and in plain words.

>>> found = Found(payload=0xBEEF, buyer="Acme", matches=97, tested=100, runner_up=25,
...               log2_p=-288.0, confidence=1.0)
>>> result = TraceResult(
...     found=(found,), best=found, n=100, classes=10, bits=16, needed=35, log2_alpha=-20.0,
...     unanswered=0, traced_at="2026-02-01T00:00:00Z")
>>> result.traced, result.buyer, result.explain()[:25]
(True, 'Acme', 'TRACED to Acme (payload b')
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.records import STRICT, Record
from doorward.watermark.tracing.register import Payload

__all__ = ["Found", "TraceResult"]

Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Found(Record):
    """A payload that the suspect's answers speak for.

    Attributes:
        payload: the number of the copy.
        buyer: who bought it; None if the register does not hold it, or none was given.
        matches: triggers to which the suspect gave this payload's label.
        tested: of so many: for the first payload found, all that got an answer; for every other,
            those of them that the payloads found before do not explain.
        runner_up: matches of the next best payload on the same triggers.
        log2_p: log2 of the bound on the probability that any of all 2^bits payloads gets so many
            matches by chance.
        confidence: posterior probability that it is this payload and no other, for a suspect made
            of one copy (`doorward.watermark.tracing.evidence`); colluders share it.
    """

    payload: Payload
    buyer: str | None = None
    matches: Count
    tested: Count
    runner_up: Count
    log2_p: Annotated[float, Field(le=0, allow_inf_nan=False)]
    confidence: Annotated[float, Field(ge=0, le=1)]

    @property
    def name(self) -> str:
        """The buyer, or the payload if nobody is known to have bought it."""
        return self.buyer or f"payload {self.payload:x}"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TraceResult(Record):
    """What `trace` found.

    Attributes:
        found: payloads that chance does not explain, the strongest first. Several mean that the
            suspect was made of several copies.
        best: the best payload of all, significant or not; for the record, accuse nobody by it.
        n: triggers asked.
        classes: number of classes L; by chance one in L matches.
        bits: length of a payload; 2^bits payloads were considered.
        needed: matches that the rule asks for of a single copy that answers everything.
        log2_alpha: the rule: a payload is found if its `log2_p` is at most this.
        unanswered: triggers that the suspect gave no label; they are left out.
        traced_at: when (UTC).
        suspect: what the suspect said of itself.
    """

    found: tuple[Found, ...]
    best: Found
    n: int
    classes: int
    bits: int
    needed: int
    log2_alpha: float
    unanswered: Count
    traced_at: str
    suspect: dict[str, Any] | None = None

    @property
    def traced(self) -> bool:
        """Whether any payload was found, be it in the register or not."""
        return bool(self.found)

    @property
    def payload(self) -> int | None:
        """The payload with the strongest evidence; None if chance may explain everything."""
        return self.found[0].payload if self.found else None

    @property
    def buyer(self) -> str | None:
        """Whose copy the strongest payload is; None if that is nobody's, or nothing was found."""
        return self.found[0].buyer if self.found else None

    @property
    def buyers(self) -> tuple[str, ...]:
        """All buyers that were found, each once."""
        return tuple(dict.fromkeys(one.buyer for one in self.found if one.buyer is not None))

    def explain(self) -> str:
        """The result in plain words, for somebody who is not a specialist."""
        by_chance = self.n / self.classes
        asked = f"The suspect was asked about {self.n} secret pictures. "
        silence = f"It gave no answer to {self.unanswered} of them. " if self.unanswered else ""
        rule = f"the rule asks for 2^{self.log2_alpha:.4g} or less, that is {self.needed} matches"
        if not self.found:
            best = self.best
            return (
                f"NOT TRACED. {asked}{silence}Of the 2^{self.bits} marks that could be sold, the "
                f"best matches {best.matches} answers; with so many marks to choose from, "
                f"chance alone gives that with probability up to {2**best.log2_p:.2g}, and {rule}. "
                "Nobody is accused."
            )
        first, *others = self.found
        text = (
            f"TRACED to {first.name} (payload {first.payload:x}). {asked}{silence}{first.matches} "
            f"answers are those of this copy's mark; the next best of 2^{self.bits} marks has "
            f"{first.runner_up}, and a given mark gets about {by_chance:.3g} by chance. That any "
            f"of them gets so many by chance has a probability of at most 2^{first.log2_p:.4g}; "
            f"{rule}."
        )
        for one in others:
            text += (
                f" Beside it {one.name}: {one.matches} of the {one.tested} answers that are not "
                f"explained yet (at most 2^{one.log2_p:.4g}). The suspect seems to be made of "
                "several copies."
            )
        if any(one.buyer is None for one in self.found):
            text += " A payload that is not in the register names no buyer."
        return text + (
            " This says whose copy the suspect comes from, not who let it out: the seller, and "
            "whoever broke in there, could make the same copy."
        )
