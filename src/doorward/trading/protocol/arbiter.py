"""Who decides a dispute: whoever reruns the checks that the seller committed to.

::

    arbiter = CommittedChecks()
    ruling = arbiter.judge(Case(deal=deal, listing=document, ..., measure=count_again))
    deal = apply(deal, Rule(at=now, ruling=ruling))

Nothing that a party *says* decides: signatures, digests and the hash lock are checked, and what a
party counted is counted again by the desk, from the trial, the opened key and the claim alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from doorward.bundles.identity import PublicIdentity
from doorward.errors import DoorwardError
from doorward.trading.protocol.deal import Deal
from doorward.trading.protocol.documents import check_listing, check_report, document_digest
from doorward.trading.protocol.events import Dispute, Measurement, Ruling
from doorward.trading.protocol.terms import hash_lock

__all__ = ["Arbiter", "Case", "CommittedChecks"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """All that is before the arbiter.

    Attributes:
        deal: in the stage ``disputed``.
        listing: the signed listing.
        complaint: the buyer's signed report.
        seller: who must have signed the one.
        buyer: who must have signed the other.
        found: SHA-256 of the files as the desk holds them, computed for this case: ``trial`` and
            ``key``, and ``opening`` once it was shown.
        measure: counts again: right answers of the trial (a dispute about accuracy), or right
            answers and working triggers of the model that the opened key unlocks. It takes the
            files of the case, not anybody's report.
    """

    deal: Deal
    listing: Mapping[str, Any]
    complaint: Mapping[str, Any]
    seller: PublicIdentity
    buyer: PublicIdentity
    found: Mapping[str, str]
    measure: Callable[[], Measurement]


class Arbiter(ABC):
    """Decides disputes. Another one (a panel, a proof system) overrides `judge`."""

    @abstractmethod
    def judge(self, case: Case) -> Ruling:
        """The ruling, with every reason written out.

        It must depend on the case alone, so that it can be made again after a crash.

        Raises:
            DoorwardError: no ruling is possible now (the measurement failed); the deal stays
                disputed and the desk tries again.
        """


class CommittedChecks(Arbiter):
    """The built-in arbiter: signatures, digests, hash lock, then the counts, measured again.

    In this order, and the first that fails decides: the seller's signature and files must fit the
    listing (else the buyer wins), the buyer's report must be the buyer's (else the seller wins);
    then the desk's own count is tested against the promise, exactly as the parties' counts are
    (`Terms.refutes_lock`, `Claim.refuted_by`). A trial model whose accuracy holds, or an opened key
    that unlocks as promised, ends the dispute for the seller; the buyer of a sealed key that was
    garbage then has the opened key from the desk.
    """

    def judge(self, case: Case) -> Ruling:
        """See `Arbiter.judge`."""
        complaint = case.deal.complaint
        if complaint is None:
            raise DoorwardError("there is no complaint to judge")
        reasons: list[str] = []
        for reason, fits in _files(case):
            reasons.append(f"{reason}: {'yes' if fits else 'no'}")
            if not fits:
                return Ruling(for_buyer=True, reasons=tuple(reasons))
        genuine = _genuine(case, complaint)
        reasons.append(f"the buyer signed the complaint: {'yes' if genuine else 'no'}")
        if not genuine:
            return Ruling(for_buyer=False, reasons=tuple(reasons))
        measured = case.measure()
        for reason, kept in _promises(case.deal, complaint, measured):
            reasons.append(f"{reason}: {'kept' if kept else 'not kept'}")
            if not kept:
                return Ruling(for_buyer=True, reasons=tuple(reasons), measured=measured)
        return Ruling(for_buyer=False, reasons=tuple(reasons), measured=measured)


def _files(case: Case) -> Iterator[tuple[str, bool]]:
    listing, deal = case.deal.listing, case.deal
    try:
        signed = check_listing(case.listing, case.seller) == listing
    except DoorwardError:
        signed = False
    yield "the seller signed the listing", signed
    yield "the trial is the listed one", case.found.get("trial") == listing.trial
    if deal.preimage is not None:
        yield "the sealed key is the listed one", case.found.get("key") == listing.key
        opens = hash_lock(bytes.fromhex(deal.preimage)) == listing.lock
        yield "the preimage opens the hash lock", opens
        yield "the opened key is the committed one", case.found.get("opening") == listing.opening


def _genuine(case: Case, complaint: Dispute) -> bool:
    try:
        finding = check_report(case.complaint, case.buyer)
    except DoorwardError:
        return False
    same = finding.deal == case.deal.id and finding.counts == complaint.counts
    return same and document_digest(case.complaint) == complaint.document


def _promises(deal: Deal, complaint: Dispute, measured: Measurement) -> Iterator[tuple[str, bool]]:
    terms, claim = deal.listing.terms, deal.listing.claim
    unlocked = complaint.ground != "accuracy"
    subject = "unlocked model" if unlocked else "trial"
    yield (
        f"the {subject} answers {measured.right} rightly, as the claim allows",
        not claim.refuted_by(measured.right, alpha=terms.alpha, unlocked=unlocked),
    )
    if unlocked:
        attack = measured.attack
        enough = attack is not None and attack.trials >= terms.attack_trials
        if attack is None or not enough:
            raise DoorwardError(
                "the desk's own count of working triggers is missing or too small",
                why=f"the terms ask for {terms.attack_trials} triggered images",
            )
        yield (
            f"after unlocking the trigger works on {attack}, as the terms allow",
            not terms.refutes_lock(attack),
        )
