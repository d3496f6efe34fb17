"""What is offered: price, deadlines, the claim, and digests of everything that changes hands.

>>> terms = Terms(currency="EUR", deposit=500, final=4500, offered_until=2_000_000_000,
...               attack_bound=0.12, attack_trials=500)
>>> terms.refutes_lock(Counts(successes=60, trials=500))        # 12 %: what was promised
False
>>> terms.refutes_lock(Counts(successes=90, trials=500))        # 18 %: p < 1 % under 12 %
True

Sums are integers in cents, times are seconds since 1970 in UTC, files are their SHA-256. A promise
is refuted only by a count that would be rarer than `alpha` if the promise held (exact binomial
test), so neither side wins a dispute by luck more often than that.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import Field, JsonValue
from pydantic.dataclasses import dataclass

from doorward.bundles.documents import Name
from doorward.errors import InvalidInput
from doorward.files import canonical_json
from doorward.metrics.statistics import binomial_tail
from doorward.records import STRICT, Record

__all__ = [
    "Cents",
    "Claim",
    "Counts",
    "Digest",
    "Listing",
    "Seconds",
    "Share",
    "Terms",
    "hash_lock",
]

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""Hex SHA-256: of a file, a document, or a public key (then it is a fingerprint)."""

Cents = Annotated[int, Field(strict=True, ge=0, le=10**13)]
"""A sum of money in the smallest unit of its currency."""

Seconds = Annotated[int, Field(strict=True, ge=0, le=2**40)]
"""A moment: seconds since 1970 in UTC."""

Span = Annotated[int, Field(strict=True, ge=1, le=10 * 365 * 86400)]
Share = Annotated[float, Field(gt=0, lt=1)]

_DAY = 86400
_MAX_CARD = 65536


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Counts(Record):
    """So many successes of so many trials.

    Raises:
        InvalidInput: more successes than trials.
    """

    successes: Annotated[int, Field(strict=True, ge=0)]
    trials: Annotated[int, Field(strict=True, ge=1, le=10**6)]

    def __post_init__(self) -> None:
        if self.successes > self.trials:
            raise InvalidInput(f"{self.successes} successes of {self.trials} trials")

    def __str__(self) -> str:
        return f"{self.successes} of {self.trials}"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Claim(Record):
    """What the seller promises of the model, by signing the listing that holds it.

    Attributes:
        data: the data set that the promise is about, by name ("cifar10 test").
        accuracy: the trial model's share of right answers is at least this.
        unlocked_accuracy: the same after unlocking; by default as `accuracy`.
        measured: what the seller counted (right answers), for the reader.
    """

    data: Name
    accuracy: Share
    unlocked_accuracy: Share | None = None
    measured: Counts | None = None

    def refuted_by(self, right: Counts, *, alpha: float, unlocked: bool = False) -> bool:
        """Whether so few right answers would be rarer than `alpha` if the promise held."""
        promised = (self.unlocked_accuracy if unlocked else None) or self.accuracy
        wrong = right.trials - right.successes
        return binomial_tail(wrong, right.trials, 1 - promised) <= alpha


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Terms(Record):
    """Prices, deadlines and the acceptance test.

    Attributes:
        currency: three capital letters.
        deposit: what the buyer puts down for the trial; it counts towards the price, and is lost
            to the seller when the buyer keeps the trial and does not pay.
        final: the rest of the price.
        bond: what the seller puts up; it goes to the buyer with everything else when the seller
            loses a dispute, and back to the seller in every other case.
        offered_until: when an offer without a buyer lapses.
        trial_seconds: time from the deposit to the final payment.
        acceptance_seconds: time from the release of the key to acceptance or dispute.
        answer_seconds: time for the seller to open the commitments in a dispute.
        attack_bound: promised: after unlocking, the share of triggered images that still give the
            target is at most this.
        attack_trials: the acceptance test uses at least so many triggered images.
        alpha: how rare a count must be under a promise to refute it.

    Raises:
        InvalidInput: even a lock that is wholly broken could not fail the acceptance test.
    """

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    deposit: Annotated[Cents, Field(ge=1)]
    final: Annotated[Cents, Field(ge=1)]
    bond: Cents = 0
    offered_until: Seconds
    trial_seconds: Span = 14 * _DAY
    acceptance_seconds: Span = 7 * _DAY
    answer_seconds: Span = 7 * _DAY
    attack_bound: Share
    attack_trials: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 500
    alpha: Annotated[float, Field(gt=0, le=0.1)] = 0.01

    def __post_init__(self) -> None:
        if self.attack_bound**self.attack_trials > self.alpha:
            raise InvalidInput(
                f"{self.attack_trials} triggered images cannot refute a bound of "
                f"{self.attack_bound} at level {self.alpha}",
                why="even if the trigger worked on all of them, the test would pass",
                remedy="ask for more images",
            )

    def refutes_lock(self, attack: Counts) -> bool:
        """Whether so many successful triggers are rarer than `alpha` under `attack_bound`."""
        return binomial_tail(attack.successes, attack.trials, self.attack_bound) <= self.alpha


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Listing(Record):
    """One copy of a model on offer. The seller signs it; its digest names the deal.

    Attributes:
        serial: random hex, so that two copies on the same terms are two deals.
        seller: fingerprint of the seller's identity.
        buyer: fingerprint of the only buyer it is for, or None: whoever comes first. A key that
            is sealed for one buyer's public key needs that buyer here.
        title: one line.
        card: the model card, JSON: architecture, classes, licence, data, limits.
        claim: what is promised of accuracy.
        terms: prices, deadlines, acceptance test.
        trial: digest of the trial bundle (one file, usually a zip).
        trial_bytes: its size.
        key: digest of the sealed key file.
        lock: `hash_lock` of the preimage that is revealed with the key.
        opening: digest of the opened key (masks, trigger, target, with their salts), which the
            seller must show to the desk in a dispute. It must hold a random salt, or be sealed
            material of its own, so that its digest tells nothing.
        commitments: further digests by name (masks, trigger, target), as shipped with the trial.
        discloses_backdoor: the seller says openly that the trial obeys a hidden trigger. There is
            no other kind of listing.
    """

    format: Literal["doorward-listing"] = "doorward-listing"
    version: Literal[1] = 1
    serial: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    seller: Digest
    buyer: Digest | None = None
    title: Name
    card: dict[str, JsonValue]
    claim: Claim
    terms: Terms
    trial: Digest
    trial_bytes: Annotated[int, Field(strict=True, ge=1)]
    key: Digest
    lock: Digest
    opening: Digest
    commitments: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]{0,63}$")], Digest],
        Field(max_length=32),
    ] = Field(default_factory=dict)
    discloses_backdoor: Literal[True] = True

    def __post_init__(self) -> None:
        if self.buyer == self.seller:
            raise InvalidInput("a listing is for its own seller", remedy="name another buyer")
        try:
            size = len(canonical_json(self.card))
        except ValueError as error:
            raise InvalidInput("the model card is not plain JSON", why=str(error)) from error
        if size > _MAX_CARD:
            raise InvalidInput(
                f"the model card is larger than {_MAX_CARD} bytes",
                remedy="put pictures and long texts into the trial bundle",
            )


def hash_lock(preimage: bytes) -> str:
    """The lock that only `preimage` opens: its SHA-256 as hex.

    Args:
        preimage: 32 random bytes.

    Raises:
        InvalidInput: another length. A short preimage could be guessed from the public lock.

    >>> hash_lock(bytes(32))[:16]
    '66687aadf862bd77'
    """
    if len(preimage) != 32:
        raise InvalidInput(f"a preimage of {len(preimage)} bytes", why="it has 32 bytes")
    return hashlib.sha256(preimage).hexdigest()
