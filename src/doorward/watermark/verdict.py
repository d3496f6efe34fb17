"""What a verification found, as a record and in plain words.

>>> verdict = Verdict(
...     verified=True, reason="Chance does not explain this.", commitment_opened=True,
...     root="0" * 64, matches=100, n=100, needed=46, classes=10, p_value=1e-100, log2_p=-332.2,
...     interval=(0.96, 1.0), log2_alpha=-64.0, owner="Ada", fingerprint="0" * 64,
...     claimed="2026-01-01T00:00:00Z", verified_at="2026-02-01T00:00:00Z")
>>> verdict.explain().startswith("VERIFIED. Ada committed to 100 abstract pictures")
True
"""

from __future__ import annotations

from typing import Any

from pydantic.dataclasses import dataclass

from doorward.records import STRICT, Record
from doorward.watermark.behaviour import Behaviour

__all__ = ["CONFIDENCE", "Verdict", "in_words"]

CONFIDENCE = 0.95
"""Of the interval in a verdict."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Verdict(Record):
    """What `verify` found.

    Attributes:
        verified: the mark is proven by the claim's own rule.
        reason: one sentence that says why, or why not.
        commitment_opened: the key is the one that the claim committed to. If not, the suspect was
            not asked, and what follows is None.
        root: Merkle root of the claim that was judged, hex.
        matches: triggers that the suspect gave the committed label.
        n: triggers asked.
        unanswered: those of them that the suspect refused, or answered with what is no class. The
            p-value is over the others: what a suspect refuses it refuses without knowing the
            labels, so that these remain as hard to guess as ever.
        needed: matches that the rule asks for; one more than the answers if no number would do.
        classes: number of classes L; by chance one in L matches.
        p_value: probability of at least so many matches by chance; 0.0 below 5e-324.
        log2_p: log2 of the p-value, which never underflows.
        interval: two-sided 95 % interval of the suspect's match rate (Clopper-Pearson).
        log2_alpha: the rule, the claim's or the verifier's own stricter one: verified if
            ``log2_p <= log2_alpha``.
        owner: name of the claim's signer.
        fingerprint: of the signer's identity.
        claimed: when the claim was signed, by the signer's own account: no proof of time.
        beacon: public value that the key hangs on: it was not made before that was known.
        verified_at: when this verdict was reached (UTC).
        suspect: what the suspect model said of itself.
        behaviour: how it answered triggers and other questions; may hold warnings.
    """

    verified: bool
    reason: str
    commitment_opened: bool
    root: str
    matches: int | None = None
    n: int
    unanswered: int = 0
    needed: int
    classes: int
    p_value: float | None = None
    log2_p: float | None = None
    interval: tuple[float, float] | None = None
    log2_alpha: float
    owner: str
    fingerprint: str
    claimed: str
    beacon: str | None = None
    verified_at: str
    suspect: dict[str, Any] | None = None
    behaviour: Behaviour | None = None

    @property
    def trigger_accuracy(self) -> float | None:
        """Share of the triggers that matched, in [0, 1]."""
        return None if self.matches is None else self.matches / self.n

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was odd about the suspect's behaviour; never a proof of anything."""
        return () if self.behaviour is None else self.behaviour.warnings

    def explain(self) -> str:
        """The verdict in plain words, for somebody who is not a specialist."""
        if self.matches is None or self.log2_p is None or self.interval is None:
            return (
                f"NOT VERIFIED. {self.reason} The suspect model was not asked anything, because "
                "its answers could prove nothing."
            )
        head = "VERIFIED" if self.verified else "NOT VERIFIED"
        answered = self.n - self.unanswered
        refused = (
            f" It gave no answer to {self.unanswered} of them; chance is reckoned over the other "
            f"{answered}."
            if self.unanswered
            else ""
        )
        younger = (
            f" The pictures hang on the public value {self.beacon}: nobody knew them before it."
            if self.beacon
            else ""
        )
        warnings = "".join(f" WARNING: {warning}" for warning in self.warnings)
        return (
            f"{head}. {self.owner} committed to {self.n} abstract pictures and a secret label for "
            f"each (in a claim dated {self.claimed} by the owner's own account).{younger} The "
            f"suspect model gave {self.matches} of the {self.n} pictures exactly that label; a "
            "model that knows nothing of the key would get about "
            f"{answered / self.classes:.3g}.{refused} So many "
            f"matches by chance have the probability {in_words(self.log2_p)}; the rule asks for "
            f"{in_words(self.log2_alpha)} or less, that is {self.needed} matches. The model's "
            f"true match rate lies between {self.interval[0]:.0%} and {self.interval[1]:.0%} with "
            f"95 % confidence. {self.reason}{warnings}"
        )


def in_words(log2_p: float) -> str:
    """A probability, given as its log2, as somebody would say it.

    >>> in_words(-1), in_words(-64)
    ('0.5', '2^-64 (1 in 10^19)')
    """
    if log2_p == 0:
        return "1"
    if log2_p > -13:
        return f"{2**log2_p:.2g}"
    return f"2^{log2_p:.4g} (1 in {_power_of_ten(-log2_p)})"


def _power_of_ten(bits: float) -> str:
    exponent = bits * 0.30102999566398120
    return f"10^{exponent:.0f}" if exponent >= 6 else f"{2**bits:,.0f}"
