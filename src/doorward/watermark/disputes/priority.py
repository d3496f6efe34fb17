"""Two claims on one model: which existed first, by evidence that neither party can make up?

>>> from datetime import UTC, datetime
>>> from doorward.bundles import Identity
>>> from doorward.watermark.claim import make_claim
>>> from doorward.watermark.key import WatermarkKey
>>> ada, eve, notary = (Identity.new(name) for name in ("Ada", "Eve", "Notary"))
>>> claims = [make_claim(WatermarkKey.new(n=40, image_shape=(1, 16, 16)), who, alpha=1e-9)
...           for who in (ada, eve)]
>>> seen = [witness_claim(claim, notary, seen=datetime(2026, month, 1, tzinfo=UTC))
...         for claim, month in zip(claims, (3, 7))]
>>> decision = decide_priority(claims, Evidence(papers=seen, witnesses=[notary.public]))
>>> decision.owner, decision.grade
('Ada', 'earlier')

Two facts bound the time of a claim. A neutral time stamp or witness (`check_stamp`,
`check_witness`) shows that it existed *no later* than some moment. A beacon value in its key
(`WatermarkKey.new` with `beacon`) shows that the key, and so the claim, existed *no earlier* than
the beacon's publication. Where one claim's latest moment lies before the other's earliest, the
order is proven; else the earlier stamp counts. What the signers themselves say about time counts
for nothing.

What the order of claims does not say: that the marks went into the model in that order. Somebody
can claim early and steal later. `doorward.watermark.disputes.settle` therefore also asks the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from cryptography import x509
from pydantic.dataclasses import dataclass

from doorward.bundles import PublicIdentity
from doorward.bundles.documents import Moment
from doorward.errors import BadFile, IntegrityError, InvalidInput
from doorward.records import STRICT, Record
from doorward.watermark.claim import Claim
from doorward.watermark.disputes.dating import (
    Dating,
    check_stamp,
    check_witness,
    claim_digest,
    witness_claim,
)

__all__ = ["Evidence", "Priority", "Timeline", "decide_priority", "witness_claim"]

Grade = Literal["proven", "earlier", "only", "open"]

_MOMENT = "%Y-%m-%dT%H:%M:%SZ"
_CLOCKS = timedelta(days=1)
"""By how much a stamp may lie in our future before it is taken for a false one."""


@plain_dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of time. The first two come from the parties and may be anything.

    Args:
        stamps: answers of time-stamp authorities (RFC 3161, DER), for any of the claims.
        papers: documents of witnesses (`witness_claim`), for any of the claims.
        authorities: root certificates that the judge trusts.
        witnesses: public identities that the judge trusts.
        beacons: beacon value -> when it was published (with a time zone), by the judge's own
            knowledge: from the beacon's archive, not from a party.
    """

    stamps: Sequence[bytes] = ()
    papers: Sequence[Mapping[str, Any]] = ()
    authorities: Sequence[x509.Certificate] = ()
    witnesses: Sequence[PublicIdentity] = ()
    beacons: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Timeline(Record):
    """What is proven of one claim's time.

    Attributes:
        owner: name of its signer.
        fingerprint: of the signer's identity.
        claim: digest of the claim.
        said: when it was made by the signer's own account; no evidence.
        not_before: its key holds a beacon value of this moment; None if it holds none known.
        dated: the earliest valid time stamp; None if there is none.
    """

    owner: str
    fingerprint: str
    claim: str
    said: Moment
    not_before: Moment | None
    dated: Dating | None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Priority(Record):
    """Which claim came first.

    Attributes:
        first: position of the claim that came first; None if that is open.
        owner: name of its signer.
        grade: ``"proven"``: it was stamped before the other's key can have existed;
            ``"earlier"``: it has the earlier stamp; ``"only"``: it alone has a stamp;
            ``"open"``.
        reason: why, in one sentence.
        timelines: of the claims, in the order given.
        refused: evidence that was not accepted, and why.
    """

    first: int | None
    owner: str | None
    grade: Grade
    reason: str
    timelines: tuple[Timeline, ...]
    refused: tuple[str, ...]


def decide_priority(claims: Sequence[Claim], evidence: Evidence | None = None) -> Priority:
    """Decide which of several claims came first.

    Args:
        claims: two or more different claims. Whether each belongs to who it names, and whether it
            verifies, is for `watermark.verify`.
        evidence: what is known of time; None for nothing.

    Returns:
        The decision, with a timeline for each claim. Evidence that does not hold (tampered with,
        for another claim, by somebody not trusted, dated in the future, or at odds with the key's
        beacon) is listed as refused and counts for nothing.

    Raises:
        InvalidInput: fewer than two claims, the same one twice, or a beacon's time without zone.
        IntegrityError: a claim's own signature does not hold.
        MissingDependency: there are time stamps, and `rfc3161-client` is not installed.
    """
    evidence = evidence or Evidence()
    if len({claim_digest(claim) for claim in claims}) != len(claims) or len(claims) < 2:
        raise InvalidInput(
            f"{len(claims)} claims, or the same one twice", why="two different ones are compared"
        )
    for value, moment in evidence.beacons.items():
        if moment.tzinfo is None:
            raise InvalidInput(f"the time of beacon {value:.40} has no time zone")
    for claim in claims:
        claim.check(claim.signer)
    datings, refused = _datings(claims, evidence)
    timelines = []
    for claim, dated in zip(claims, datings, strict=True):
        timeline, complaint = _timeline(claim, dated, evidence.beacons)
        timelines.append(timeline)
        refused += complaint
    first, grade, reason = _first(timelines)
    return Priority(
        first=first,
        owner=None if first is None else timelines[first].owner,
        grade=grade,
        reason=reason,
        timelines=tuple(timelines),
        refused=tuple(refused),
    )


def _datings(claims: Sequence[Claim], evidence: Evidence) -> tuple[list[list[Dating]], list[str]]:
    """For each claim the datings that hold; and why the others do not."""
    found: list[list[Dating]] = [[] for _ in claims]
    refused = []
    latest = (datetime.now(UTC) + _CLOCKS).strftime(_MOMENT)
    pieces: list[tuple[str, Any]] = [("time stamp", stamp) for stamp in evidence.stamps]
    pieces += [("witness's document", paper) for paper in evidence.papers]
    for number, (kind, piece) in enumerate(pieces, 1):
        reasons = []
        for place, claim in enumerate(claims):
            try:
                if kind == "time stamp":
                    dating = check_stamp(piece, claim, evidence.authorities)
                else:
                    dating = check_witness(piece, claim, evidence.witnesses)
            except (BadFile, IntegrityError) as error:
                reasons.append(str(error))
                continue
            if dating.latest > latest:
                reasons.append(f"it is dated in the future ({dating.latest})")
            else:
                found[place].append(dating)
                break
        else:
            refused.append(f"Evidence {number}, a {kind}: {'; '.join(dict.fromkeys(reasons))}")
    return found, refused


def _timeline(
    claim: Claim, datings: list[Dating], beacons: Mapping[str, datetime]
) -> tuple[Timeline, list[str]]:
    beacon = claim.statement.key.beacon
    moment = None if beacon is None else beacons.get(beacon)
    not_before = None if moment is None else moment.astimezone(UTC).strftime(_MOMENT)
    owner = claim.signer.name
    possible = [one for one in datings if not_before is None or one.latest >= not_before]
    complaint = [
        f"{one.by} dates {owner}'s claim {one.latest}, but its key holds a beacon value that was "
        f"published at {not_before}: one of the two is wrong"
        for one in datings
        if one not in possible
    ]
    dated = min(possible, key=lambda dating: (dating.latest, dating.earliest), default=None)
    return (
        Timeline(
            owner=owner,
            fingerprint=claim.signer.fingerprint,
            claim=claim_digest(claim),
            said=claim.created,
            not_before=not_before,
            dated=dated,
        ),
        complaint,
    )


def _first(timelines: list[Timeline]) -> tuple[int | None, Grade, str]:
    dated = [(line.dated, place) for place, line in enumerate(timelines) if line.dated is not None]
    if not dated:
        return (
            None,
            "open",
            "No claim has a time stamp that holds: what signers say is no evidence.",
        )
    best, first = min(dated, key=lambda pair: (pair[0].latest, pair[1]))
    others = [line for place, line in enumerate(timelines) if place != first]
    owner = timelines[first].owner
    seen = f"{owner}'s claim existed by {best.latest} (says {best.by})"
    if all(line.not_before is not None and line.not_before > best.latest for line in others):
        until = min(line.not_before or "" for line in others)
        return first, "proven", f"{seen}, and the other key cannot be older than {until}."
    rivals = [line.dated for line in others if line.dated is not None]
    if any(rival.earliest <= best.latest for rival in rivals):
        return None, "open", "The time stamps are too close to each other to tell which is earlier."
    if rivals:
        rival = min(rivals, key=lambda dating: dating.earliest)
        return (
            first,
            "earlier",
            f"{seen}; the other is first seen at {rival.earliest} ({rival.by}).",
        )
    return first, "only", f"{seen}; the other has no time stamp that holds."
