"""From answers to a verdict: arithmetic, which whoever has the key and the answers can repeat.

>>> from doorward.bundles import Identity
>>> from doorward.honeypot.lean import Entry, Menu
>>> from doorward.honeypot.proof.claim import make_claim
>>> menu = Menu(classes=10, image_shape=(1, 16, 16), entries=tuple(
...     Entry(across=u, down=v, targets=tuple(range(10))) for u in (2, 4, 6) for v in (0, 3)))
>>> key = LeanKey.new(bits=3)
>>> claim = make_claim(key, menu, Identity.new("Ada"), looks=(2, 4))
>>> told = Told(clean=(0, 0), waved=((0,) * 6,) * 6)           # class 0, whatever is asked
>>> verdict = count_again(claim, key, told, (0, 1), [], log2_alpha=-9.0)
>>> verdict.verified, verdict.log2_p
(False, 0.0)
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from doorward.errors import InvalidInput
from doorward.honeypot.lean.key import Bit, LeanKey
from doorward.honeypot.proof.asking import Told, curve, hits
from doorward.honeypot.proof.claim import LeanClaim, LeanStatement
from doorward.honeypot.proof.rank import Look, control_p_value, rank_log2_p, sequential_log2_p
from doorward.honeypot.proof.verdict import Verdict

__all__ = ["blank_verdict", "count_again", "image_seed", "opens"]


def count_again(
    claim: LeanClaim,
    key: LeanKey,
    told: Told,
    truth: Sequence[int],
    controls: Sequence[Told],
    log2_alpha: float,
) -> Verdict:
    """The verdict that answers lead to; without what the suspect said of itself.

    Raises:
        InvalidInput: the answers do not fit the claim.
    """
    statement = claim.statement
    bits, steps = key.choose(statement.menu), len(statement.amplitudes)
    count, size = len(told.clean), {"classes": statement.menu.classes, "amplitudes": steps}
    full = len(statement.menu.entries)
    if count not in statement.looks or any(len(t.waved) != full for t in (told, *controls)):
        raise InvalidInput("the answers are not those to the claim's questions")
    looks = [
        Look(
            end,
            _log2_p(
                statement, bits, [_first(t, end, steps) for t in (told, *controls)], truth[:end]
            ),
        )
        for end in statement.looks
        if end <= count
    ]
    log2_p = sequential_log2_p(looks, len(statement.looks))
    targets = [bit.target for bit in bits]
    success, *beside = (
        curve(_rows(t, statement, bits), truth, targets, **size) for t in (told, *controls)
    )
    means = tuple(sum(values) / steps for values in beside)
    mean = sum(success) / steps
    exceeds = mean >= max(means, default=0.0) + statement.margin
    proven = log2_p <= log2_alpha
    reason = (
        "Chance does not explain this."
        if proven and exceeds
        else "Chance explains this."
        if not proven
        else "But independent models fall for the waves nearly as much, or it hardly does itself."
    )
    return replace(
        blank_verdict(claim, log2_alpha),
        verified=proven and exceeds,
        reason=reason,
        commitment_opened=True,
        log2_p=log2_p,
        images=count,
        looks=tuple((look.images, look.log2_p) for look in looks),
        queries=count * (1 + steps * len(statement.menu.entries)),
        success=success,
        control_success=means,
        control_p=control_p_value(mean, means),
    )


def opens(statement: LeanStatement, key: LeanKey) -> bool:
    """Whether a key is the one that a statement commits to."""
    same = key.parameters == statement.key
    return same and hmac.compare_digest(key.commitment(), statement.commitment)


def image_seed(claim: LeanClaim) -> int:
    """What the choice of images follows from: neither side makes it after the claim."""
    return int(claim.digest()[:15], 16)


def blank_verdict(claim: LeanClaim, log2_alpha: float) -> Verdict:
    """The verdict of a suspect that was not asked, because the key opens nothing."""
    statement, signer = claim.statement, claim.signer
    return Verdict(
        verified=False,
        reason="The key is not the one that the claim committed to.",
        commitment_opened=False,
        log2_p=None,
        log2_alpha=log2_alpha,
        keys=statement.keys,
        bits=statement.key.bits,
        images=0,
        planned=statement.looks[-1],
        looks=(),
        queries=0,
        success=(),
        amplitudes=statement.amplitudes,
        control_success=(),
        control_p=None,
        owner=signer.name,
        fingerprint=signer.fingerprint,
        claimed=claim.created,
        verified_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _log2_p(
    statement: LeanStatement, bits: Sequence[Bit], told: Sequence[Told], truth: Sequence[int]
) -> float:
    """The rank of the key by the suspect's hits (the first's) beyond those of all controls."""
    size = {"classes": statement.menu.classes, "amplitudes": len(statement.amplitudes)}
    own, *others = (hits(answers, truth, **size) for answers in told)
    excess = [
        [
            max(found - max((o[row][t] for o in others), default=0), 0)
            for t, found in enumerate(counts)
        ]
        for row, counts in enumerate(own)
    ]
    rows = statement.menu.waves
    score = sum(excess[rows.index((bit.across, bit.down))][bit.target] for bit in bits)
    return rank_log2_p(statement.menu, len(bits), excess, score)


def _first(told: Told, images: int, steps: int) -> Told:
    """The answers to the first images."""
    count = len(told.clean)
    kept = tuple(
        tuple(label for step in range(steps) for label in row[step * count : step * count + images])
        for row in told.waved
    )
    return Told(clean=told.clean[:images], waved=kept)


def _rows(told: Told, statement: LeanStatement, bits: Sequence[Bit]) -> Told:
    """The answers to the waves of a key, in its order."""
    places = [statement.menu.waves.index((bit.across, bit.down)) for bit in bits]
    return Told(clean=told.clean, waved=tuple(told.waved[place] for place in places))
