"""What a claim says, without its signature: which key, which rules.

>>> from doorward.watermark.derivation import KeyParameters
>>> statement = Statement(
...     key=KeyParameters(n=200), root="0" * 64, log2_alpha=-64.0, disclosure=Disclosure(size=20))
>>> statement.needed, statement.disclosure.needed(statement.n, statement.classes)
(68, 17)

So this claim is proven by 68 matches among all 200 triggers, shown to one judge under seal; or in
any of ten disputes by 17 among the 20 triggers that the dispute opens to everybody.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.errors import InvalidInput
from doorward.records import STRICT, Record, Version1
from doorward.watermark.derivation import KeyParameters
from doorward.watermark.lots import WEAKEST, Disclosure, matches_needed

__all__ = ["Hash", "Statement"]

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 in hex."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Statement(Record):
    """What a claim says.

    Attributes:
        key: the public parameters of the key: generator, triggers, classes, shape, owner, beacon.
        root: Merkle root over all trigger images and labels, hex.
        log2_alpha: decision rule: the mark is proven when log2 of the p-value is at most this.
            At most -20. (A logarithm, because every JSON writer spells small numbers differently.)
        model_digest: content digest of the marked model's bundle, hex; for the record, as a
            stolen model is never the very same file.
        disclosure: how disputes open a few triggers each; None in a claim that knows only the
            whole key.
    """

    scheme: Literal["doorward-watermark"] = "doorward-watermark"
    version: Version1 = 1
    key: KeyParameters
    root: Hash
    log2_alpha: Annotated[float, Field(ge=-1_000_000, le=WEAKEST, allow_inf_nan=False)]
    model_digest: Hash | None = None
    disclosure: Disclosure | None = None

    def __post_init__(self) -> None:
        if self.disclosure is not None and self.disclosure.size > self.key.n:
            raise InvalidInput(
                f"an opening of {self.disclosure.size} triggers is more than the key has",
                why=f"it has {self.key.n}",
                remedy="open fewer, or make a key with more triggers",
            )

    @property
    def n(self) -> int:
        """Number of triggers."""
        return self.key.n

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.key.classes

    @cached_property
    def needed(self) -> int | None:
        """The smallest number of matches that satisfies the decision rule; None if none does."""
        return self.needed_at(self.log2_alpha)

    def needed_at(self, log2_alpha: float) -> int | None:
        """The smallest number of matches whose p-value is at most 2^log2_alpha; None if none is."""
        return matches_needed(self.n, self.classes, log2_alpha)
