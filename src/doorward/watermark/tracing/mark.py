"""A buyer's mark: the key's trigger images under the labels that spell the buyer's payload.

>>> from doorward.watermark.key import WatermarkKey
>>> code = TracingCode(WatermarkKey.new(n=60, image_shape=(1, 16, 16)))
>>> one, other = BuyerMark(code, 1), BuyerMark(code, 2)
>>> bool((one.triggers()[0] == other.triggers()[0]).all()), one.commitment() == other.commitment()
(True, False)

It is a `TriggerSet`, so whatever plants a key plants a buyer's mark: `mark_copies`, fast, into
copies of one trained model, or `doorward.watermark.embed` into a model of its own.
"""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from doorward.bundles.merkle import commit
from doorward.watermark.tracing.code import TracingCode

__all__ = ["BuyerMark"]


class BuyerMark:
    """The mark of one sold copy.

    Args:
        code: the tracing key and the length of its payloads.
        payload: the copy's number, 0 to ``2**code.bits - 1``.

    Raises:
        InvalidInput: there is no such payload.
    """

    def __init__(self, code: TracingCode, payload: int) -> None:
        code.check(payload)
        self.code, self.payload = code, payload

    @property
    def n(self) -> int:
        """Number of triggers."""
        return self.code.key.n

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.code.key.classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        return self.code.key.image_shape

    def triggers(self) -> tuple[Tensor, Tensor]:
        """The uint8 images ``(n, C, H, W)``, the same for all buyers, and this buyer's labels."""
        return self.code.key.triggers()[0], self._labels.clone()

    def commitment(self) -> str:
        """Hash, in hex, that binds to the key and the payload without showing the payload."""
        facts = f"{self.code.key.commitment()} {self.code.bits} {self.payload}"
        # Salted by a trigger's secret: 2^16 payloads would be tried in no time.
        salt = self.code.key.secret_of(0).mac(b"buyer's mark")
        return commit(salt, facts.encode()).hex()

    @cached_property
    def _labels(self) -> Tensor:
        return self.code.encode(self.payload)

    def __repr__(self) -> str:
        return f"BuyerMark({self.code!r}, payload hidden)"
