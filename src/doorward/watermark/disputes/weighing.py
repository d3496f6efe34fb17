"""The parties of a dispute, what each kind of evidence says, and what follows from all of them.

>>> votes = [Vote(evidence="time", party=0, reason="Stamped earlier."),
...          Vote(evidence="model", party=None, reason="Nothing follows.")]
>>> decide(votes, ("Ada", "Eve"))[0]
0
>>> votes.append(Vote(evidence="exhibits", party=1, reason="A model of her own."))
>>> decide(votes, ("Ada", "Eve"))[0] is None
True

Unanimity of those that speak decides, or one that is conclusive; `doorward.watermark.disputes.
settlement` says why.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass as plain_dataclass
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from doorward.bundles import PublicIdentity, digest
from doorward.records import STRICT, Record
from doorward.watermark.claim import Claim
from doorward.watermark.disputes.exhibits import Exhibits
from doorward.watermark.disputes.priority import Priority
from doorward.watermark.key import WatermarkKey

__all__ = ["Party", "Vote", "decide", "vote_of_exhibits"]


@plain_dataclass(frozen=True, kw_only=True, eq=False)
class Party:
    """One who claims the model.

    Args:
        claim: the signed claim.
        key: its key, opened.
        public: the party's public identity, from a source that you trust.
        exhibit: a model that the party shows as their own (a bundle's folder, which a claim may
            name by its digest; or module, ``.onnx`` file, endpoint, callable); None for none.
    """

    claim: Claim
    key: WatermarkKey
    public: PublicIdentity
    exhibit: Any = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Vote(Record):
    """What one kind of evidence says.

    Attributes:
        evidence: ``"time"``, ``"model"`` or ``"exhibits"``.
        party: 0 or 1, for whom it speaks; None if for neither.
        reason: why.
        conclusive: it outweighs evidence of other kinds.
    """

    evidence: Literal["time", "model", "exhibits"]
    party: int | None
    reason: str
    conclusive: bool = False


def decide(votes: Sequence[Vote], names: tuple[str, str]) -> tuple[int | None, str]:
    """Who wins, if the votes allow to say; and why.

    Args:
        votes: of any kinds of evidence.
        names: of the parties.

    Returns:
        0, 1 or None, and one sentence.
    """
    conclusive = [vote for vote in votes if vote.conclusive]
    speaking = conclusive or [vote for vote in votes if vote.party is not None]
    sides = {vote.party for vote in speaking}
    if not sides:
        return None, "Both marks are in the model, and no evidence tells which was there first."
    if len(sides) == 2:
        return (
            None,
            "Both marks are in the model, and the evidence of their order points both ways.",
        )
    (winner,) = sides
    assert winner is not None  # noqa: S101 - votes without a party were left out
    told = f"Both marks are in the model; that of {names[winner]} was there first"
    if conclusive:
        return winner, f"{told}: a model that is shown, and named in a dated claim, is conclusive."
    kinds = " and ".join(vote.evidence for vote in speaking)
    return winner, f"{told} by the evidence of {kinds}, and nothing speaks against it."


def vote_of_exhibits(exhibits: Exhibits, parties: tuple[Party, Party], priority: Priority) -> Vote:
    """Conclusive where a dated claim names a relative, and the other shows no older one."""
    related = [
        one is not None and one.alone and bool(kin)
        for one, kin in zip(exhibits.exhibits, exhibits.kin, strict=True)
    ]
    dates = [
        line.dated if kin and _names_exhibit(party) else None
        for kin, party, line in zip(related, parties, priority.timelines, strict=True)
    ]
    for place in (0, 1):
        mine, others = dates[place], dates[1 - place]
        unrivalled = not related[1 - place]
        if mine and (unrivalled or (others and mine.latest < others.earliest)):
            reason = (
                "This party shows a relative of the disputed model with its mark alone, which its "
                f"claim dated {mine.latest} names; the other party has none, or a later one."
            )
            return Vote(evidence="exhibits", party=place, reason=reason, conclusive=True)
    return Vote(evidence="exhibits", party=exhibits.older, reason=exhibits.reason)


def _names_exhibit(party: Party) -> bool:
    shown, named = party.exhibit, party.claim.statement.model_digest
    if named is None or not isinstance(shown, str | os.PathLike) or not os.path.isdir(shown):
        return False
    return digest(shown) == named
