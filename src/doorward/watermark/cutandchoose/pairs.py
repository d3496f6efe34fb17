"""The opened half of a cut-and-choose: a signed document that everybody can inspect.

>>> from doorward.bundles.identity import Identity
>>> from doorward.watermark.adi import PaperKey, publish
>>> from doorward.watermark.cutandchoose.plan import BY_BEACON, CutAndChoose
>>> ada = Identity.new("Ada")
>>> key = PaperKey.new(n=60, classes=10, image_shape=(1, 16, 16))
>>> vk = publish(key, ada)                                     # then the beacon's next value comes
>>> plan = CutAndChoose(pairs=60, opened=30, log2_cheating=BY_BEACON)
>>> opened = open_pairs(key, vk, ada, plan, beacon="8f2a51c0")
>>> opened.reveal(vk, ada.public).images.shape
torch.Size([30, 1, 16, 16])

Adi et al. (2018) do this once, when the key is made, so that the verification key stays usable for
any number of proofs. Here it works for the paper's keys and for `WatermarkKey`. The latter do not
need it: their pictures show nothing and their labels are drawn, so that no label can be the truth.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from typing import Any, Literal, Self

from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.bundles.documents import read_object
from doorward.bundles.identity import Identity, PublicIdentity
from doorward.bundles.signed import SignedDocument, check_document, sign_document, write_document
from doorward.errors import BadFile, IntegrityError, InvalidInput
from doorward.records import STRICT, Record, Version1
from doorward.watermark.adi.key import PaperKey
from doorward.watermark.adi.vk import VerificationKey
from doorward.watermark.claim import Claim
from doorward.watermark.cutandchoose.paperpairs import (
    Pair,
    check_paper_pairs,
    open_paper_pairs,
)
from doorward.watermark.cutandchoose.plan import BY_BEACON, BY_HASH, CutAndChoose
from doorward.watermark.derivation import Beacon
from doorward.watermark.key import WatermarkKey
from doorward.watermark.opened import OpenedTrigger, RevealedTriggers, open_triggers
from doorward.watermark.statement import Hash

__all__ = [
    "Committed",
    "OpenedPairs",
    "Pairs",
    "RevealedPairs",
    "open_pairs",
    "require_same",
    "root_of",
]

PURPOSE = "watermark-opened-pairs"

Committed = Claim | VerificationKey
"""What pairs were committed to with: a claim, or the paper's verification key."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Pairs(Record):
    """What a document of opened pairs says.

    Attributes:
        plan: how many pairs there are, and how many were opened.
        commitment: to all pairs, hex.
        beacon: the public value that drew, if it was not the hash of the commitment.
        triggers: the opened pairs of a `WatermarkKey`, or else
        pairs: those of a `PaperKey`.
    """

    scheme: Literal["doorward-opened-pairs"] = "doorward-opened-pairs"
    version: Version1 = 1
    plan: CutAndChoose
    commitment: Hash
    beacon: Beacon | None = None
    triggers: tuple[OpenedTrigger, ...] = ()
    pairs: tuple[Pair, ...] = ()

    def __post_init__(self) -> None:
        weakest = BY_HASH if self.beacon is None else BY_BEACON
        if self.plan.log2_cheating > weakest:
            raise InvalidInput(
                f"a chance of 2^{self.plan.log2_cheating:.4g} to cheat is too much",
                why=f"2^{weakest:.4g} is the most: "
                + (
                    "keys can be tried until their hash draws kindly"
                    if self.beacon is None
                    else "that is what one draw by a beacon is held to"
                ),
                remedy="plan with less, or draw by a beacon",
            )

    @property
    def drawn(self) -> tuple[int, ...]:
        """The pairs that had to be opened."""
        return self.plan.drawn(self.commitment, self.beacon)


@plain_dataclass(frozen=True)
class RevealedPairs:
    """Opened pairs, checked: ``indices``, uint8 images ``(k, C, H, W)``, int64 labels ``(k,)``."""

    indices: tuple[int, ...]
    images: Tensor
    labels: Tensor


@plain_dataclass(frozen=True)
class OpenedPairs:
    """Opened pairs with their owner's signature.

    Attributes:
        content: what is opened.
        document: the signed JSON document that it came from.
    """

    content: Pairs
    document: Mapping[str, Any]

    def reveal(self, claim: Committed, public: PublicIdentity) -> RevealedPairs:
        """Check that these are the pairs that the draw chose and the claim committed to.

        Args:
            claim: the claim or verification key; its signature is checked as well.
            public: the owner's public identity, from a source that you trust.

        Raises:
            IntegrityError: they are not, or somebody else signed.
        """
        claim.check(public)
        if _pairs(check_document(self.document, public, purpose=PURPOSE)) != self.content:
            raise IntegrityError(
                "the opened pairs are not what their signature covers", remedy="do not trust them"
            )
        plan, drawn = self.content.plan, self.content.drawn
        if (self.content.commitment, plan.pairs) != (root_of(claim), claim.statement.n):
            raise IntegrityError("the opened pairs are of another claim", remedy="give its own")
        keyed = isinstance(claim, Claim)
        shown = tuple(trigger.index for trigger in self.content.triggers)
        seen = tuple(pair.index for pair in self.content.pairs)
        if (shown, seen) != ((drawn, ()) if keyed else ((), drawn)):
            raise IntegrityError(
                "other pairs are opened than those drawn",
                why=f"drawn are {list(drawn[:5])}...",
                remedy="do not trust the claim",
            )
        if isinstance(claim, Claim):
            root = bytes.fromhex(claim.statement.root)
            revealed = RevealedTriggers(claim.statement.key, root, self.content.triggers)
            return RevealedPairs(drawn, *revealed.triggers())
        return RevealedPairs(drawn, *check_paper_pairs(claim, self.content.pairs))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write them as JSON, to be published beside the claim."""
        write_document(path, self.document)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file that `save` wrote; nothing is checked yet.

        Raises:
            MissingData: there is no such file.
            BadFile: it is not a signed document.
            IntegrityError: it is one, but holds no opened pairs of this version.
        """
        document = read_object(path)
        try:
            signed = SignedDocument.from_dict(document)
        except InvalidInput as error:
            raise BadFile(
                f"{path} holds no opened pairs", why=error.why, remedy="get it from its owner"
            ) from error
        return cls(content=_pairs(signed.content), document=document)


def open_pairs(
    key: WatermarkKey | PaperKey,
    claim: Committed,
    identity: Identity,
    plan: CutAndChoose,
    *,
    beacon: str | None = None,
) -> OpenedPairs:
    """Open the pairs that are drawn, and sign them. They prove nothing any more from now on.

    Args:
        key: the key.
        claim: its published claim, or verification key.
        identity: who signed that.
        plan: of as many pairs as the key has.
        beacon: public random value from after the publication; None to draw by the hash of the
            commitment, which asks for `BY_HASH`.

    Raises:
        InvalidInput: key, claim and plan do not fit each other, or the plan is too easy to cheat.
        IntegrityError: the claim is not by `identity`.
    """
    claim.check(identity.public)
    require_same(key, claim)
    if isinstance(claim, Claim) and claim.statement.disclosure is not None:
        raise InvalidInput(
            "this claim is for openings in disputes",
            why="pairs that are opened now would be known there already",
            remedy="make a claim without them (disclosure=None, --opening-size 0)",
        )
    if plan.pairs != key.n:
        raise InvalidInput(
            f"the plan is for {plan.pairs} pairs",
            why=f"the key has {key.n}",
            remedy="plan with all its pairs",
        )
    drawn = plan.drawn(key.commitment(), beacon)
    opened: dict[str, Any] = (
        {"triggers": open_triggers(key, drawn)}
        if isinstance(key, WatermarkKey)
        else {"pairs": open_paper_pairs(key, drawn)}
    )
    opened = {name: [entry.to_dict() for entry in entries] for name, entries in opened.items()}
    content = Pairs.from_dict(
        {"plan": plan.to_dict(), "commitment": key.commitment(), "beacon": beacon, **opened}
    )
    document = sign_document(content.to_dict(), identity, purpose=PURPOSE)
    return OpenedPairs(content=_pairs(document["content"]), document=document)


def require_same(key: WatermarkKey | PaperKey, claim: Committed) -> None:
    """Refuse a key that a claim was not made on.

    Raises:
        InvalidInput: it is another key, or has other parameters.
    """
    parameters = key.parameters if isinstance(key, WatermarkKey) else key.facts
    if (key.commitment(), parameters) != (root_of(claim), claim.statement.key):
        raise InvalidInput("the key is not the claim's", remedy="give the key it was made for")


def root_of(claim: Committed) -> str:
    """The commitment to all pairs, hex."""
    if isinstance(claim, Claim):
        return claim.statement.root
    return claim.statement.commitment()


def _pairs(content: Mapping[str, Any]) -> Pairs:
    try:
        return Pairs.from_dict(content)
    except InvalidInput as error:
        raise IntegrityError(
            "these are no opened pairs of this version", why=error.why, remedy="ask their owner"
        ) from error
