"""What the paper's Verify found: each of its three steps, and beside its bit the exact p-value.

>>> verdict = PaperVerdict(
...     accepted=True, reason="All three checks passed.", judged=0, correct_labels=None,
...     opened=200, matches=100, n=100, needed=90, epsilon=0.1, classes=10, law="uniform",
...     p_value=1e-100, log2_p=-332.2, log2_p_permutation=-306.0, interval=(0.96, 1.0),
...     best_constant=14, commitment="0" * 64, owner="Ada", fingerprint="0" * 64,
...     claimed="2026-01-01T00:00:00Z", verified_at="2026-02-01T00:00:00Z")
>>> verdict.convincing, verdict.explain().startswith("ACCEPTED. Ada committed to 100 pictures")
(True, True)
"""

from __future__ import annotations

from typing import Any

from pydantic.dataclasses import dataclass

from doorward.records import STRICT, Record
from doorward.watermark.adi.chance import Law

__all__ = ["CONVINCING", "PaperVerdict"]

CONVINCING = -20.0
"""log2 of the largest p-value that convinces: whoever claims also drew the labels, and could draw
thousands of keys until one satisfies a weaker rule by chance."""

_NULLS = {
    "uniform": "labels drawn uniformly from {} classes",
    "shuffled": "these labels in a random order",
}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PaperVerdict(Record):
    """What `paper_verify` found.

    Attributes:
        accepted: the paper's bit: all three steps passed.
        reason: one sentence that says why, or why not.
        judged: pictures for which the judge named a true class.
        correct_labels: numbers of the pictures whose committed label is the true one; None if
            nobody judged.
        opened: commitments that the marking key opens, of 2n.
        matches: pictures that the suspect gave the committed label; None if an earlier step failed
            and it was not asked.
        n: pictures.
        needed: matches that the paper's rule asks for, n - floor(eps * n).
        epsilon: eps, the verification key's or the verifier's own smaller one.
        classes: number of classes L.
        law: what the verification key says of the labels, and with it the null hypothesis of
            `log2_p`: Binomial(n, 1/L) for ``"uniform"``, a permutation test for ``"shuffled"``.
        p_value: probability of at least so many matches by chance; 0.0 below 5e-324.
        log2_p: its log2.
        log2_p_permutation: log2 of the p-value of the permutation test, which does not rely on
            the owner's word that the labels are uniform.
        interval: two-sided 95 % interval of the suspect's match rate (Clopper-Pearson).
        best_constant: matches of the best constant predictor.
        commitment: hash over all 2n commitments, hex.
        owner: name of the verification key's signer.
        fingerprint: of the signer's identity.
        claimed: when it was signed, by the signer's own account: no proof of time.
        verified_at: when this verdict was reached (UTC).
        suspect: what the suspect model said of itself.
    """

    accepted: bool
    reason: str
    judged: int
    correct_labels: tuple[int, ...] | None
    opened: int
    matches: int | None = None
    n: int
    needed: int
    epsilon: float
    classes: int
    law: Law
    p_value: float | None = None
    log2_p: float | None = None
    log2_p_permutation: float | None = None
    interval: tuple[float, float] | None = None
    best_constant: int | None = None
    commitment: str
    owner: str
    fingerprint: str
    claimed: str
    verified_at: str
    suspect: dict[str, Any] | None = None

    @property
    def trigger_accuracy(self) -> float | None:
        """Share of the pictures that matched, in [0, 1]."""
        return None if self.matches is None else self.matches / self.n

    @property
    def convincing(self) -> bool:
        """Accepted, and chance explains it under neither null hypothesis (p <= 2^-20)."""
        tails = (self.log2_p, self.log2_p_permutation)
        return self.accepted and all(tail is not None and tail <= CONVINCING for tail in tails)

    def explain(self) -> str:
        """The verdict in plain words, for somebody who is not a specialist."""
        head = "ACCEPTED" if self.accepted else "REJECTED"
        if self.accepted and not self.convincing:
            head = "ACCEPTED BY THE PAPER'S RULE, BUT NOT CONVINCING"
        said = (
            f"{head}. {self.owner} committed to {self.n} pictures and a label for each (in a "
            f"verification key dated {self.claimed} by the owner's own account). "
            f"{self._judgement()} The marking key opens {self.opened} of {2 * self.n} commitments."
        )
        if self.matches is None or self.log2_p is None or self.log2_p_permutation is None:
            return f"{said} {self.reason} The suspect model was not asked anything."
        null = _NULLS[self.law].format(self.classes)
        return (
            f"{said} The suspect model gave {self.matches} of the {self.n} pictures the committed "
            f"label; the rule asks for {self.needed}. With {null}, so many matches by chance have "
            f"the probability 2^{self.log2_p:.4g} (2^{self.log2_p_permutation:.4g} if the labels "
            f"count as shuffled only); the best constant answer matches {self.best_constant}. "
            f"{self.reason}"
        )

    def _judgement(self) -> str:
        if self.correct_labels is None:
            return "Nobody judged whether these labels are wrong, as the paper demands."
        return (
            f"A judge saw a true class in {self.judged} pictures; {len(self.correct_labels)} "
            "committed labels are true."
        )
