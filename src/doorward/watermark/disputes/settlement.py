"""Two owners, one model: all the evidence together, and a decision in plain words.

    ada = Party(claim=adas_claim, key=adas_key, public=ada.public, exhibit="adas.model")
    eve = Party(claim=eves_claim, key=eves_key, public=eve.public)
    result = settle("disputed.model", ada, eve, evidence=evidence, clean=clean)
    result.winner, result.explain()

Both marks are in the model (else there is no dispute): somebody put his into a model that carried
the other's. Three kinds of evidence say whose was first, and each is asked on its own:

- *time*: whose claim is provably older (`decide_priority`);
- *the model*: whose mark is harder to forget (`asymmetry_test`);
- *exhibits*: who can show an ancestor of the model with his mark alone (`compare_exhibits`).

The model goes to a party if some evidence speaks for them and none for the other. Evidence that
points both ways leaves the dispute open, for a person to decide: an early time stamp proves an
early claim, not an early mark, and the harder mark may be the younger one that was forced in. One
thing is conclusive by itself: a relative of the model (closer than independent ones, so bring some)
with the party's mark alone, which the party's *time-stamped claim names* by its digest, unless the
other party shows as much with an earlier date. So claim with ``model_digest``, have the claim
stamped, and keep that model.

>>> import torch
>>> from doorward.bundles import Identity
>>> from doorward.watermark.claim import make_claim
>>> from doorward.watermark.disputes.weighing import Party
>>> from doorward.watermark.key import WatermarkKey
>>> parties = []
>>> for who in (Identity.new("Ada"), Identity.new("Eve")):
...     key = WatermarkKey.new(n=40, image_shape=(1, 16, 16), owner=who.public)
...     parties.append(Party(claim=make_claim(key, who, alpha=1e-9), key=key, public=who.public))
>>> settle(lambda images: torch.zeros(len(images), dtype=torch.int64), *parties).explain()
"OPEN. Neither party's mark is in the model, so there is nothing to settle."
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from pydantic.dataclasses import dataclass
from torch import nn

from doorward.bundles import PublicIdentity, open_black_box, open_model
from doorward.data import ImageData
from doorward.errors import InvalidInput
from doorward.records import STRICT, Record
from doorward.removal import FineTuning
from doorward.watermark.disputes.asymmetry import asymmetry_test, drills
from doorward.watermark.disputes.exhibits import Exhibits, compare_exhibits
from doorward.watermark.disputes.persistence import Asymmetry
from doorward.watermark.disputes.priority import Evidence, Priority, decide_priority
from doorward.watermark.disputes.weighing import Party, Vote, decide, vote_of_exhibits
from doorward.watermark.verdict import Verdict
from doorward.watermark.verification import verify

__all__ = ["Settlement", "settle"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Settlement(Record):
    """How a dispute ends.

    Attributes:
        winner: 0 or 1; None if it stays open.
        owner: name of the winner.
        names: of the two parties.
        reason: why, in one sentence.
        verdicts: does the model carry each party's mark?
        votes: what each kind of evidence says; none if there was nothing to settle.
        priority: the evidence of time.
        asymmetry: the evidence of the model; None if it was not asked.
        exhibits: the evidence of models shown; None if there were none.
    """

    winner: int | None
    owner: str | None
    names: tuple[str, str]
    reason: str
    verdicts: tuple[Verdict, Verdict]
    votes: tuple[Vote, ...]
    priority: Priority | None = None
    asymmetry: Asymmetry | None = None
    exhibits: Exhibits | None = None

    def explain(self) -> str:
        """The settlement in plain words, for somebody who is not a specialist."""
        head = "OPEN"
        if self.winner is not None:
            name = self.names[self.winner].upper()
            head = f"THE MODEL IS {name}'S" if self.votes else f"ONLY THE MARK OF {name} IS PROVEN"
        lines = [f"{head}. {self.reason}"]
        titles = {"time": "Time", "model": "The model itself", "exhibits": "Models shown"}
        for vote in self.votes:
            side = "for neither" if vote.party is None else f"for {self.names[vote.party]}"
            lines.append(f"{titles[vote.evidence]} ({side}): {vote.reason}")
        if self.priority is not None:
            lines += [f"Not accepted: {reason}" for reason in self.priority.refused]
        return "\n".join(lines)


def settle(
    suspect: Any,
    one: Party,
    other: Party,
    *,
    evidence: Evidence | None = None,
    clean: ImageData | None = None,
    fine_tunings: Sequence[FineTuning] | None = None,
    controls: Sequence[Any] = (),
    validation: ImageData | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Settlement:
    """Decide between two parties whose marks are in one model.

    Args:
        suspect: the disputed model. With `clean` its weights are needed: a module or a bundle;
            else anything that answers (see `watermark.verify`).
        one: a party.
        other: the other one.
        evidence: of time (see `Evidence`).
        clean: clean labelled images of the model's task, for the fine-tuning test; None leaves the
            test out.
        fine_tunings: of that test (`drills`); None for the usual ones.
        controls: independent models of the task, to judge exhibits by.
        validation: images to measure accuracy on in the fine-tuning test.
        seed: of the fine-tuning test.
        device: where to fine-tune.

    Raises:
        IntegrityError: a claim was changed, or is signed by somebody else than it says.
        InvalidInput: `clean` with a suspect that only answers; or what the parts raise.
        ModelUnsuitable, EndpointFailed, MissingDependency, TrainingDiverged: as the parts.
    """
    if clean is not None and not isinstance(suspect, nn.Module):
        suspect = _weights(suspect)
    parties = (one, other)
    box = open_black_box(suspect)
    first, second = (verify(p.claim, p.key, box, public=p.public) for p in parties)
    names = _names(one.public, other.public)
    facts: dict[str, Any] = {"names": names, "verdicts": (first, second)}
    if not (first.verified and second.verified):
        return _undisputed(names, (first.verified, second.verified), facts)
    priority = decide_priority([party.claim for party in parties], evidence)
    votes = [Vote(evidence="time", party=priority.first, reason=priority.reason)]
    asymmetry = exhibits = None
    if clean is not None:
        asymmetry = asymmetry_test(
            suspect,
            (one.key, other.key),
            clean,
            drills=drills() if fine_tunings is None else fine_tunings,
            validation=validation,
            seed=seed,
            device=device,
        )
        votes.append(Vote(evidence="model", party=asymmetry.older, reason=asymmetry.explain(names)))
    if one.exhibit is not None or other.exhibit is not None:
        exhibits = compare_exhibits(
            box,
            (one.key, other.key),
            (one.exhibit, other.exhibit),
            log2_alphas=(first.log2_alpha, second.log2_alpha),
            controls=controls,
        )
        votes.append(vote_of_exhibits(exhibits, parties, priority))
    winner, reason = decide(votes, names)
    return Settlement(
        winner=winner,
        owner=None if winner is None else names[winner],
        reason=reason,
        votes=tuple(votes),
        priority=priority,
        asymmetry=asymmetry,
        exhibits=exhibits,
        **facts,
    )


def _undisputed(
    names: tuple[str, str], verified: tuple[bool, bool], facts: dict[str, Any]
) -> Settlement:
    if not any(verified):
        reason = "Neither party's mark is in the model, so there is nothing to settle."
        return Settlement(winner=None, owner=None, reason=reason, votes=(), **facts)
    winner = int(verified[1])
    reason = (
        f"The mark of {names[1 - winner]} is not in the model, or no longer: a mark that was "
        "removed cannot be told from one that never was."
    )
    return Settlement(winner=winner, owner=names[winner], reason=reason, votes=(), **facts)


def _names(one: PublicIdentity, other: PublicIdentity) -> tuple[str, str]:
    """What the parties are called; two of one name are told apart."""
    if one.name != other.name:
        return one.name, other.name
    return f"{one.name} ({one.fingerprint[:8]})", f"{other.name} ({other.fingerprint[:8]})"


def _weights(suspect: Any) -> nn.Module:
    if isinstance(suspect, str | os.PathLike):
        return open_model(suspect)
    raise InvalidInput(
        "the disputed model only answers",
        why="the fine-tuning test works on copies of its weights",
        remedy="give the model itself, or leave out the clean images",
    )
