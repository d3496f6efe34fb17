"""The owner's claim, made before anything is served: which secret, and what will count as proof.

>>> from doorward.bundles import Identity
>>> from doorward.honeypot.lean import Entry, LeanKey, Menu
>>> menu = Menu(classes=10, image_shape=(1, 16, 16), entries=tuple(
...     Entry(across=u, down=v, targets=tuple(range(10))) for u in (2, 4, 6) for v in (0, 3)))
>>> ada = Identity.new("Ada")
>>> claim = make_claim(LeanKey.new(bits=3, owner=ada.public), menu, ada)
>>> claim.statement.keys, len(claim.digest())
(20000, 64)

It commits to the key, and with the menu to its waves and classes, without showing them; it fixes
the amplitudes, the number of images, the looks and the level. Have its digest time-stamped before
the first answer is served, and keep the file: the menu would tell a thief where to listen.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.bundles.documents import canonical, read_object
from doorward.bundles.identity import Identity, PublicIdentity
from doorward.bundles.signed import SignedDocument, check_document, sign_document, write_document
from doorward.errors import BadFile, IntegrityError, InvalidInput
from doorward.honeypot.lean.key import LeanKey, LeanParameters
from doorward.honeypot.lean.menu import AMPLITUDES, Menu
from doorward.records import STRICT, Record

__all__ = ["LOOKS", "PURPOSE", "LeanClaim", "LeanStatement", "make_claim"]

PURPOSE = "honeypot-lean-claim"

LOOKS = (8, 16, 32, 64)
"""Numbers of images after which a verification may stop, wherever nothing else is said."""

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LeanStatement(Record):
    """What a claim says.

    Attributes:
        key: the public part of the key.
        commitment: SHA-256 that binds the key, hex.
        menu: what the key draws from.
        amplitudes: at which every wave is put on every image, ascending, in (0, 1].
        looks: numbers of images after which the verification may stop, ascending.
        log2_alpha: the level: error of a false accusation by the rule, as a logarithm.
        margin: success, over all amplitudes, by which the suspect must exceed every control.
        model_digest: content digest of the bundle that is served, hex; for the record.
    """

    scheme: Literal["doorward-honeypot"] = "doorward-honeypot"
    version: Literal[1] = 1
    key: LeanParameters
    commitment: Hash
    menu: Menu
    amplitudes: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1, max_length=64)
    ]
    looks: Annotated[
        tuple[Annotated[int, Field(ge=1, le=100_000, strict=True)], ...],
        Field(min_length=1, max_length=64),
    ]
    log2_alpha: Annotated[float, Field(ge=-1000, lt=0, allow_inf_nan=False)]
    margin: Annotated[float, Field(ge=0, le=1)] = 0.1
    model_digest: Hash | None = None

    def __post_init__(self) -> None:
        for name in ("amplitudes", "looks"):
            values = getattr(self, name)
            if list(values) != sorted(set(values)):
                raise InvalidInput(f"{name} {values} are not ascending")
        if self.keys < 1:
            raise InvalidInput(f"the menu is too short for keys of {self.key.bits} bits")

    @property
    def keys(self) -> int:
        """How many keys there might have been."""
        return self.menu.keys(self.key.bits)

    @property
    def best(self) -> float:
        """log2 of the smallest p-value there is."""
        return math.log2(len(self.looks)) - math.log2(self.keys)


@plain_dataclass(frozen=True)
class LeanClaim:
    """A statement with its signature.

    Attributes:
        statement: what is claimed.
        document: the signed JSON document that it came from.
    """

    statement: LeanStatement
    document: Mapping[str, Any]

    @property
    def signer(self) -> PublicIdentity:
        """Who signed, by their own account; `check` tells whether it is true."""
        return PublicIdentity.from_dict(self.document["signer"])

    @property
    def created(self) -> str:
        """When it was signed, by the signer's own account (ISO 8601, UTC)."""
        return str(self.document["created"])

    def digest(self) -> str:
        """Hex SHA-256 of the whole document: what is time-stamped before serving."""
        return hashlib.sha256(canonical(self.document, "the claim")).hexdigest()

    def check(self, public: PublicIdentity) -> None:
        """Check signature and consistency against the owner's public identity.

        Args:
            public: from a source that you trust, not from beside the claim.

        Raises:
            IntegrityError: somebody else signed it, it was changed, or its key belongs to
                somebody else.
        """
        content = check_document(self.document, public, purpose=PURPOSE)
        if _statement(content) != self.statement:
            raise IntegrityError(
                "the claim's statement is not what its signature covers", remedy="do not trust it"
            )
        owner = self.statement.key.owner
        if owner is not None and owner != public.fingerprint:
            raise IntegrityError(
                "the claim's key belongs to another owner than the one who signed",
                why=f"the key is bound to {owner[:16]}, the signer is {public.fingerprint[:16]}",
                remedy="do not trust it",
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the claim as a JSON file."""
        write_document(path, self.document)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read a claim out of a signed document. The signature is not checked yet: see `check`.

        Raises:
            BadFile: it is not a signed document.
            IntegrityError: it is one, but its content is no statement of this version.
        """
        try:
            signed = SignedDocument.from_dict(document)
        except InvalidInput as error:
            raise BadFile(
                "this is not a claim", why=error.why, remedy="get it again from its owner"
            ) from error
        return cls(statement=_statement(signed.content), document=dict(document))

    @classmethod
    def load(cls, path: str | os.PathLike[str], public: PublicIdentity | None = None) -> Self:
        """Read a claim file, and check it if `public` is given.

        Raises:
            MissingData: there is no such file.
            BadFile: it is not a signed document.
            IntegrityError: it was changed, or is not by `public`.
        """
        claim = cls.from_document(read_object(path))
        if public is not None:
            claim.check(public)
        return claim


def make_claim(
    key: LeanKey,
    menu: Menu,
    identity: Identity,
    *,
    alpha: float = 1e-3,
    amplitudes: Sequence[float] = AMPLITUDES,
    looks: Sequence[int] = LOOKS,
    margin: float = 0.1,
    model_digest: str | None = None,
    created: datetime | None = None,
) -> LeanClaim:
    """State and sign, before serving, that substitutes which fall for `key` are copies.

    Args:
        key: the lean's key.
        menu: what it drew from (`LeanResult.menu`).
        identity: the owner's signing identity; the one the key was made for.
        alpha: probability of accusing a model that has nothing to do with the key, in (0, 1). It
            covers one key: who tries k keys, or k suspects, divides by k.
        amplitudes: of the waves, ascending; the whole curve counts.
        looks: numbers of images after which the verification may stop, ascending.
        margin: success by which a suspect must exceed every control: a p-value says that an effect
            is there, not that it matters.
        model_digest: content digest of the bundle that is served, if it is known.
        created: time to write into the claim, by default now.

    Raises:
        InvalidInput: the key is bound to another owner, a number is out of range, or no result
            could reach `alpha`.
    """
    if key.parameters.owner not in (None, identity.public.fingerprint):
        raise InvalidInput(
            f"this key was not made for {identity.public.name}",
            why="it is bound to another identity",
            remedy="sign with the identity that the key was made for",
        )
    if not 0 < alpha < 1:
        raise InvalidInput(f"alpha is {alpha}", why="a level lies between 0 and 1")
    key.choose(menu)  # raises where the menu is too short
    statement = LeanStatement.from_dict(
        {
            "key": key.parameters.to_dict(),
            "commitment": key.commitment(),
            "menu": menu.to_dict(),
            "amplitudes": list(amplitudes),
            "looks": list(looks),
            "log2_alpha": math.log2(alpha),
            "margin": margin,
            "model_digest": model_digest,
        }
    )
    if statement.best > statement.log2_alpha:
        raise InvalidInput(
            f"a level of {alpha:.3g} is out of reach",
            why=f"there are {statement.keys} keys and {len(statement.looks)} looks, so that no "
            f"p-value is below {2.0**statement.best:.2g}",
            remedy="take a key with more bits, a longer menu, fewer looks or a larger alpha",
        )
    document = sign_document(statement.to_dict(), identity, purpose=PURPOSE, created=created)
    return LeanClaim(statement=_statement(document["content"]), document=document)


def _statement(content: Mapping[str, Any]) -> LeanStatement:
    try:
        return LeanStatement.from_dict(content)
    except InvalidInput as error:
        raise IntegrityError(
            "the claim is not a valid statement of this version",
            why=error.why or error.what,
            remedy="get it again from its owner, or use the version of doorward that made it",
        ) from error
