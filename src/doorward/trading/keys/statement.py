"""What ships with a trial: the seller's signed commitments to masks, trigger and target.

::

    document = commitment_statement(opened, ada)
    read_statement(document, ada.public).commitments()
    commitments = check_statement(document, ada.public, trial=model, licence=text)
    open_unlock(..., commitments=commitments)

Whoever has the statement before paying can show afterwards that another key was delivered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.bundles import Identity, PublicIdentity, check_document, sign_document
from doorward.errors import BadFile, IntegrityError, InvalidInput
from doorward.records import STRICT, Record
from doorward.trading.keys.opened import OpenedKey, licence_digest, weights_digest

__all__ = ["Statement", "check_statement", "commitment_statement", "read_statement"]

_PURPOSE = "trade-commitments"
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Statement(Record):
    """What the seller signs.

    Attributes:
        trial: digest of the trial's weights.
        licence: digest of the licence's text.
        masks: commitment to the masks.
        trigger: commitment to the trigger.
        target: commitment to the label rule.
    """

    trial: Digest
    licence: Digest
    masks: Digest
    trigger: Digest
    target: Digest

    def commitments(self) -> dict[str, str]:
        """Those to masks, trigger and target, as keys and listings take them."""
        return {"masks": self.masks, "trigger": self.trigger, "target": self.target}


def commitment_statement(opened: OpenedKey, seller: Identity) -> dict[str, Any]:
    """The commitments of a key as a signed document."""
    statement = Statement(trial=opened.trial, licence=opened.licence, **opened.commitments())
    return sign_document(statement.to_dict(), seller, purpose=_PURPOSE)


def read_statement(document: Mapping[str, Any], seller: PublicIdentity) -> Statement:
    """The statement in a document that `seller` signed.

    Raises:
        BadFile: it is no such statement.
        IntegrityError: the signature does not fit, or somebody else's does.
    """
    try:
        return Statement.from_dict(check_document(document, seller, purpose=_PURPOSE))
    except InvalidInput as error:
        raise BadFile("this is no statement of commitments", why=error.why) from error


def check_statement(
    document: Mapping[str, Any], seller: PublicIdentity, *, trial: nn.Module, licence: str
) -> dict[str, str]:
    """The commitments in a statement that `seller` signed for this trial and licence.

    Raises:
        BadFile: it is no such statement.
        IntegrityError: the signature does not fit, or it is about another trial or licence.
    """
    statement = read_statement(document, seller)
    found = {"trial": weights_digest(trial), "licence": licence_digest(licence)}
    for name, digest in found.items():
        if digest != getattr(statement, name):
            raise IntegrityError(
                f"the commitments are about another {name}",
                why=f"its digest is {digest[:16]}, theirs {getattr(statement, name)[:16]}",
                remedy="give the trial and the licence as they were delivered",
            )
    return statement.commitments()
