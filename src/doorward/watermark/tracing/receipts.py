"""A buyer's receipt: one sale, and its place in the register that the seller committed to.

>>> from doorward.bundles.identity import Identity
>>> from doorward.watermark.key import WatermarkKey
>>> from doorward.watermark.tracing.commitment import commit_register
>>> key = WatermarkKey.new(n=60, image_shape=(1, 16, 16))
>>> register = Register.of(key).sell("Acme").sell("Bolt")
>>> receipt = receipt_for(register, register.sales[0].payload)
>>> receipt.check(commit_register(register, Identity.new("Ada"))).buyer
'Acme'

It shows this sale and nothing of the others, so in a dispute about one buyer it takes the place of
the register.
"""

from __future__ import annotations

import os
from typing import Literal, Self

from pydantic.dataclasses import dataclass

from doorward.bundles.documents import read_object
from doorward.bundles.merkle import MerkleProof, verify_proof
from doorward.errors import BadFile, IntegrityError, InvalidInput
from doorward.files import write_json
from doorward.records import STRICT, Record, Version1
from doorward.watermark.tracing.commitment import RegisterCommitment
from doorward.watermark.tracing.register import Register, Sale

__all__ = ["Receipt", "receipt_for"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Receipt(Record):
    """One sale with its place in the register: for the buyer, and for a dispute about this buyer.

    Attributes:
        sale: what was sold to whom. With the salt, it says nothing of other sales.
        proof: the way to the committed root.
    """

    format: Literal["doorward-receipt"] = "doorward-receipt"
    version: Version1 = 1
    sale: Sale
    proof: MerkleProof

    def check(self, commitment: RegisterCommitment) -> Sale:
        """The sale, if the commitment covers it. Check the commitment's signature apart from this.

        Raises:
            IntegrityError: the sale is not one of those committed to.
        """
        statement = commitment.statement
        if self.proof.size != statement.sales:
            raise IntegrityError(
                f"the receipt is of a register of {self.proof.size} sales",
                why=f"the commitment covers {statement.sales}",
                remedy="ask the seller for the commitment that goes with it",
            )
        root = bytes.fromhex(statement.register)
        verify_proof(root, self.sale.leaf(self.proof.index), self.proof)
        return self.sale

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the receipt, readable by its owner only."""
        write_json(path, self.to_dict(), private=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a receipt; see `check`.

        Raises:
            MissingData: there is no such file.
            BadFile: it is no receipt.
        """
        try:
            return cls.from_dict(read_object(path))
        except InvalidInput as error:
            raise BadFile(f"{path} is no receipt", why=error.why or error.what) from error


def receipt_for(register: Register, payload: int) -> Receipt:
    """The receipt of one sale.

    Raises:
        InvalidInput: no copy with this payload was sold.
    """
    for index, sale in enumerate(register.sales):
        if sale.payload == payload:
            return Receipt(sale=sale, proof=register.tree().proof(index))
    raise InvalidInput(f"payload {payload:x} has not been sold")
