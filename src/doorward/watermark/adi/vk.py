"""The verification key vk of the paper: 2n commitments, published and signed by the owner.

>>> from doorward.bundles import Identity
>>> from doorward.watermark.adi.key import PaperKey
>>> ada = Identity.new("Ada")
>>> key = PaperKey.new(n=100, classes=10, image_shape=(1, 16, 16))
>>> vk = publish(key, ada, epsilon=0.1)
>>> vk.statement.n, vk.statement.needed(), vk.signer.name
(100, 90, 'Ada')
>>> vk.check(ada.public)

Publish it with a time stamp before the model leaves the house: in the paper's game of non-trivial
ownership the claim comes first. The signature, eps and what is known of the labels' distribution
are ours; the paper's vk is the list of commitments alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from datetime import datetime
from fractions import Fraction
from typing import Annotated, Any, Literal, Self

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.bundles import Identity, PublicIdentity, check_document, sign_document, write_document
from doorward.bundles.documents import read_object
from doorward.bundles.signed import SignedDocument
from doorward.errors import BadFile, IntegrityError, InvalidInput
from doorward.records import STRICT, Record, Version1
from doorward.watermark.adi.chance import MOST_PICTURES
from doorward.watermark.adi.commitments import digest_of
from doorward.watermark.adi.key import PaperKey
from doorward.watermark.adi.keyfile import KeyFacts

__all__ = ["EPSILON", "PURPOSE", "PaperStatement", "VerificationKey", "publish"]

PURPOSE = "adi-verification-key"

EPSILON = 0.1
"""eps where the owner does not say otherwise; the paper names no number, only eps < 1/2."""

Epsilon = Annotated[float, Field(ge=0, lt=0.5, allow_inf_nan=False)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Hashes = Annotated[tuple[Hash, ...], Field(min_length=1, max_length=MOST_PICTURES)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PaperStatement(Record):
    """What a verification key says.

    Attributes:
        key: what the marking key is for.
        epsilon: share of the pictures that a marked model may get wrong, in [0, 1/2).
        pictures: ct_1 to ct_n, hex.
        labels: cl_1 to cl_n, hex.
    """

    scheme: Literal["adi-2018"] = "adi-2018"
    version: Version1 = 1
    key: KeyFacts
    epsilon: Epsilon
    pictures: Hashes
    labels: Hashes

    def __post_init__(self) -> None:
        if not len(self.pictures) == len(self.labels) == self.key.n:
            raise InvalidInput(
                f"{len(self.pictures)} and {len(self.labels)} commitments for {self.key.n} "
                "pictures",
                why="one to each picture and one to each label are needed",
            )

    @property
    def n(self) -> int:
        """Number of pictures."""
        return self.key.n

    def commitment(self) -> str:
        """One hash, hex, over all 2n commitments (`PaperKey.commitment`)."""
        return digest_of(self.pictures, self.labels)

    def needed(self, epsilon: float | None = None) -> int:
        """Matches that the paper's rule asks for: all but eps*n, by default with the key's eps.

        The share is taken as the decimal number that it is written as: 29 of 100 may miss at 0.29.
        """
        share = self.epsilon if epsilon is None else epsilon
        return self.n - math.floor(Fraction(repr(float(share))) * self.n)


@plain_dataclass(frozen=True)
class VerificationKey:
    """A statement with its signature.

    Attributes:
        statement: what is committed to.
        document: the signed JSON document that it came from.
    """

    statement: PaperStatement
    document: Mapping[str, Any]

    @property
    def signer(self) -> PublicIdentity:
        """Who signed, by their own account; `check` tells whether it is true."""
        return PublicIdentity.from_dict(self.document["signer"])

    @property
    def created(self) -> str:
        """When it was signed, by the signer's own account (ISO 8601, UTC)."""
        return str(self.document["created"])

    def check(self, public: PublicIdentity) -> None:
        """Check the signature against the owner's public identity.

        Args:
            public: from a source that you trust, not from beside the key.

        Raises:
            IntegrityError: somebody else signed it, or it was changed.
        """
        content = check_document(self.document, public, purpose=PURPOSE)
        if _statement(content) != self.statement:
            raise IntegrityError(
                "the verification key's statement is not what its signature covers",
                remedy="do not trust it",
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the verification key as a JSON file, which may be published."""
        write_document(path, self.document)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read a verification key out of a signed document, which is not checked yet.

        Raises:
            BadFile: it is not a signed document.
            IntegrityError: it is one, but its content is no statement of this version.
        """
        try:
            signed = SignedDocument.from_dict(document)
        except InvalidInput as error:
            raise BadFile(
                "this is not a verification key",
                why=error.why,
                remedy="get it again from its owner",
            ) from error
        return cls(statement=_statement(signed.content), document=dict(document))

    @classmethod
    def load(cls, path: str | os.PathLike[str], public: PublicIdentity | None = None) -> Self:
        """Read a file that `save` wrote, and check it if `public` is given.

        Raises:
            MissingData: there is no such file.
            BadFile: it is not a signed document.
            IntegrityError: it was changed, or is not by `public`.
        """
        found = cls.from_document(read_object(path))
        if public is not None:
            found.check(public)
        return found


def publish(
    key: PaperKey,
    identity: Identity,
    *,
    epsilon: float = EPSILON,
    created: datetime | None = None,
) -> VerificationKey:
    """KeyGen's second half: commit to all pictures and labels, and sign.

    Args:
        key: the marking key.
        identity: the owner's signing identity.
        epsilon: share of the pictures that a marked model may get wrong, in [0, 1/2).
        created: time to write into the document, by default now.

    Raises:
        InvalidInput: `epsilon` is out of range.
    """
    pictures, labels = key.commitments()
    statement = PaperStatement.from_dict(
        {
            "key": key.facts.to_dict(),
            "epsilon": epsilon,
            "pictures": pictures,
            "labels": labels,
        }
    )
    document = sign_document(statement.to_dict(), identity, purpose=PURPOSE, created=created)
    return VerificationKey(statement=_statement(document["content"]), document=document)


def _statement(content: Mapping[str, Any]) -> PaperStatement:
    try:
        return PaperStatement.from_dict(content)
    except InvalidInput as error:
        raise IntegrityError(
            "this is not a valid verification key of this version",
            why=error.why or error.what,
            remedy="get it again from its owner, or use the version of doorward that made it",
        ) from error
