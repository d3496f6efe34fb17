"""The seller's book: which buyer's copy carries which payload.

>>> from doorward.watermark.key import WatermarkKey
>>> key = WatermarkKey.new(n=60, image_shape=(1, 16, 16))
>>> register = Register.of(key).sell("Acme").sell("Bolt", payload=0xBEEF)
>>> register.buyer_of(0xBEEF), register.buyer_of(0xBEEF ^ 1), len(register)
('Bolt', None, 2)

The book stays with the seller (it names customers). `doorward.watermark.tracing.commitment` binds
the seller to it in public.
"""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer
from pydantic.dataclasses import dataclass

from doorward.bundles.documents import Moment, Name, canonical, read_object
from doorward.bundles.merkle import MerkleTree, leaf
from doorward.errors import BadFile, InvalidInput
from doorward.files import write_json
from doorward.records import STRICT, Record, Version1
from doorward.watermark.derivation import KeyParameters
from doorward.watermark.key import WatermarkKey
from doorward.watermark.tracing.code import MAX_BITS, TracingCode

__all__ = ["Hash", "Payload", "Register", "Sale"]

MAX_SALES = 2**20

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _from_hex(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(rf"[0-9a-f]{{1,{MAX_BITS // 4}}}", value):
        return int(value, 16)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << MAX_BITS:
        return value
    raise ValueError(f"a payload is a number of at most {MAX_BITS} bits, in JSON as hex")


Payload = Annotated[
    int, BeforeValidator(_from_hex), PlainSerializer(lambda value: f"{value:x}", return_type=str)
]
"""A payload. In JSON it is hex text, as not every reader of JSON keeps more than 53 bits."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Sale(Record):
    """One copy that was sold.

    Attributes:
        buyer: who bought it. A buyer of several copies has several sales.
        payload: what the copy's mark spells.
        copy: content digest of the copy's bundle (`bundles.digest`), hex; None if not known.
        sold: when, by the seller's own account.
        salt: hides the sale in the register's commitment, hex.
    """

    buyer: Name
    payload: Payload
    copy: Hash | None = None
    sold: Moment
    salt: Hash

    def leaf(self, index: int) -> bytes:
        """What a Merkle tree commits to this sale with."""
        content = self.to_dict()
        salt = bytes.fromhex(content.pop("salt"))
        return leaf(index, salt, canonical(content, "the sale"))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Register(Record):
    """All sales under one tracing key, in their order. Changes give a new register.

    Attributes:
        key: public parameters of the tracing key.
        root: the key's commitment, hex.
        bits: length of a payload.
        sales: at most 2^20.
    """

    format: Literal["doorward-register"] = "doorward-register"
    version: Version1 = 1
    key: KeyParameters
    root: Hash
    bits: Annotated[int, Field(ge=1, le=MAX_BITS, strict=True)] = 16
    sales: Annotated[tuple[Sale, ...], Field(max_length=MAX_SALES)] = ()

    def __post_init__(self) -> None:
        if len(self._buyers) < len(self.sales):
            raise InvalidInput("two sales have the same payload", why="it must name one copy")
        if any(sale.payload >> self.bits for sale in self.sales):
            raise InvalidInput(f"a sale has a payload of more than {self.bits} bits")

    @classmethod
    def of(cls, key: WatermarkKey, bits: int = 16) -> Self:
        """A register without sales.

        Args:
            key: the tracing key.
            bits: length of payloads.

        Raises:
            InvalidInput: the key's triggers cannot spell so many bits.
        """
        TracingCode(key, bits)
        return cls(key=key.parameters, root=key.commitment(), bits=bits)

    def __len__(self) -> int:
        return len(self.sales)

    def sell(
        self,
        buyer: str,
        *,
        payload: int | None = None,
        copy: str | None = None,
        sold: datetime | None = None,
    ) -> Self:
        """The register with one more sale, which is then ``sales[-1]``.

        Args:
            buyer: name of the buyer.
            payload: of the copy; None draws one that is still free from the system's random
                numbers.
            copy: content digest of the copy's bundle; see also `delivered`.
            sold: the time, by default now.

        Raises:
            InvalidInput: the payload is taken or too long, none is free, the name is no name, or
                the register is full (2^20 sales).
        """
        if len(self.sales) >= min(MAX_SALES, 1 << self.bits):
            raise InvalidInput(
                f"all {len(self.sales)} payloads of {self.bits} bits are sold",
                remedy="begin a register with longer payloads, or with another key",
            )
        if payload is not None and not 0 <= payload < 1 << self.bits:
            raise InvalidInput(f"payload {payload} is not one of {self.bits} bits")
        if payload is not None and payload in self._buyers:
            raise InvalidInput(
                f"payload {payload:x} was given to {self._buyers[payload]} already",
                remedy="leave it out: a free one is drawn",
            )
        sale = Sale.from_dict(
            {
                "buyer": buyer,
                "payload": self._free() if payload is None else payload,
                "copy": copy,
                "sold": (sold or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "salt": secrets.token_hex(32),
            }
        )
        return replace(self, sales=(*self.sales, sale))

    def delivered(self, payload: int, copy: str) -> Self:
        """The register with the digest of the copy of a sale, once it has been made.

        Raises:
            InvalidInput: there is no such sale, or its copy is on record already.
        """
        if self.buyer_of(payload) is None:
            raise InvalidInput(f"payload {payload:x} has not been sold")
        sales = []
        for sale in self.sales:
            if sale.payload == payload and sale.copy is not None:
                raise InvalidInput(f"the copy with payload {payload:x} is on record already")
            facts = {**sale.to_dict(), "copy": copy}
            sales.append(Sale.from_dict(facts) if sale.payload == payload else sale)
        return replace(self, sales=tuple(sales))

    def buyer_of(self, payload: int) -> str | None:
        """Who bought the copy with this payload; None if nobody did."""
        return self._buyers.get(payload)

    def code(self, key: WatermarkKey) -> TracingCode:
        """The code that these payloads are spelled in.

        Raises:
            InvalidInput: it is the register of another key.
        """
        if key.commitment() != self.root or key.parameters != self.key:
            raise InvalidInput(
                "the register belongs to another key",
                why=f"it is of the key with root {self.root[:16]}, "
                f"this one has {key.commitment()[:16]}",
                remedy="give the key that the copies were marked with",
            )
        return TracingCode(key, self.bits)

    def tree(self) -> MerkleTree:
        """The Merkle tree whose leaf *i* commits to sale *i*.

        Raises:
            InvalidInput: nothing has been sold.
        """
        if not self.sales:
            raise InvalidInput("there are no sales to commit to", remedy="sell a copy first")
        return MerkleTree([sale.leaf(index) for index, sale in enumerate(self.sales)])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the register, readable by its owner only.

        Raises:
            StorageFailed: it could not be written; an older file is left as it was.
        """
        write_json(path, self.to_dict(), private=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a register.

        Raises:
            MissingData: there is no such file.
            BadFile: it is no register.
        """
        try:
            return cls.from_dict(read_object(path))
        except InvalidInput as error:
            raise BadFile(
                f"{path} is no register of buyers",
                why=error.why or error.what,
                remedy="give another file, or your backup",
            ) from error

    @cached_property
    def _buyers(self) -> dict[int, str]:
        return {sale.payload: sale.buyer for sale in self.sales}

    def _free(self) -> int:
        while (payload := secrets.randbits(self.bits)) in self._buyers:
            pass
        return payload
