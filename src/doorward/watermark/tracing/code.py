"""The code behind buyers' marks: which labels spell which payload, for whoever has the key.

>>> from doorward.watermark.key import WatermarkKey
>>> code = TracingCode(WatermarkKey.new(n=60, image_shape=(1, 16, 16)), bits=16)
>>> labels = code.encode(0xC0DE)
>>> labels.shape, code.decode(labels).payload == 0xC0DE
(torch.Size([60]), True)

A random code: the label of trigger *i* in the mark of payload *m* is number *m* of a stream of
uniform labels that follows from the secret of trigger *i*. So

- to anybody without the key, the labels of a copy are uniform and independent, also of those of
  any other copy: a copy tells nothing of what other copies answer;
- the matches of a model that was not taught a payload's labels are Binomial(n, 1/L) for that
  payload, and all payloads together have the exact bound of `doorward.watermark.tracing.evidence`;
- decoding tries every payload, which is maximum likelihood under errors that hit all triggers and
  all wrong labels alike, and takes milliseconds for 2^16 payloads.

Random codes meet Shannon's bound on what so many labels can carry, so nothing is gained by a more
structured one as long as all payloads can be tried. Above `BLOCK_BITS` bits the payload is cut into
equal blocks, each spelled by triggers of its own (trigger *i* serves block ``i mod blocks``): this
costs some strength (a block has fewer triggers), and two colluders' blocks may be mixed up, so keep
to `BLOCK_BITS` bits to trace buyers, and use more to carry a message, say a licence's hash.
"""

from __future__ import annotations

import hashlib
import math
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.watermark.key import WatermarkKey
from doorward.watermark.lots import matches_needed
from doorward.watermark.tracing.evidence import Decoded, judge

__all__ = ["BLOCK_BITS", "MAX_BITS", "NO_ANSWER", "TracingCode"]

BLOCK_BITS = 20
"""Payload bits up to which all payloads are tried; above it, payloads are cut into blocks ..."""

MAX_BITS = 256

_LONG_BLOCK_BITS = 16  # ... of this many bits at most.
_CACHED_BYTES = 2**27
_WORD_BYTES = 4

NO_ANSWER = -1
"""In place of a label where a suspect gave none: it matches no payload."""

Counts = npt.NDArray[np.int64]
Column = npt.NDArray[np.unsignedinteger[Any]]


class TracingCode:
    """All marks that a key can give to buyers.

    Args:
        key: the tracing key. It must not be one that claims ownership of the same models: a copy
            can answer the key's own labels or a buyer's, not both. Each trigger costs a small
            network some accuracy, and for 2^16 buyers 64 triggers are plenty (see `needed`).
        bits: length b of a payload, 1 to 256; there are 2^b payloads, 0 to 2^b - 1.

    Raises:
        InvalidInput: `bits` is out of range, or more than the labels of a block can tell apart.
    """

    def __init__(self, key: WatermarkKey, bits: int = 16) -> None:
        if not isinstance(bits, int) or not 1 <= bits <= MAX_BITS:
            raise InvalidInput(f"payloads of {bits} bits", why=f"1 to {MAX_BITS} are possible")
        self.key, self.bits = key, bits
        self.blocks = 1 if bits <= BLOCK_BITS else math.ceil(bits / _LONG_BLOCK_BITS)
        # The first blocks are the longer ones: 40 bits are 14 + 13 + 13.
        short, longer = divmod(bits, self.blocks)
        self.block_bits = tuple(short + (block < longer) for block in range(self.blocks))
        fewest = key.n // self.blocks
        if fewest * math.log2(key.classes) < self.block_bits[0]:
            least = self.blocks * math.ceil(self.block_bits[0] / math.log2(key.classes))
            raise InvalidInput(
                f"{key.n} triggers cannot spell {bits} bits",
                why=f"a label of {key.classes} classes carries {math.log2(key.classes):.3g} bits",
                remedy=f"make a key with more triggers (a few times {least}), or choose fewer bits",
            )

    def __repr__(self) -> str:
        return f"TracingCode({self.key!r}, bits={self.bits})"

    def encode(self, payload: int) -> Tensor:
        """The labels that spell a payload, int64 ``(n,)``.

        Raises:
            InvalidInput: the payload is negative or has more than `bits` bits.
        """
        parts = self.split(payload)
        labels = [self._column(i)[parts[i % self.blocks]] for i in range(self.key.n)]
        return torch.tensor(np.array(labels, dtype=np.int64))

    def split(self, payload: int) -> tuple[int, ...]:
        """The blocks of a payload, the lowest bits first.

        >>> from doorward.watermark.key import WatermarkKey
        >>> long = TracingCode(WatermarkKey.new(n=60, image_shape=(1, 16, 16)), bits=32)
        >>> [hex(block) for block in long.split(0xABCD0123)], long.join([0x0123, 0xABCD])
        (['0x123', '0xabcd'], 2882339107)
        """
        self.check(payload)
        parts = []
        for bits in self.block_bits:
            parts.append(payload & (1 << bits) - 1)
            payload >>= bits
        return tuple(parts)

    def join(self, parts: list[int]) -> int:
        """The payload of these blocks."""
        payload = 0
        for bits, part in zip(reversed(self.block_bits), reversed(parts), strict=True):
            payload = payload << bits | part
        return payload

    def check(self, payload: int) -> None:
        """Refuse what is no payload of this code.

        Raises:
            InvalidInput: it is negative, or has more than `bits` bits.
        """
        if not 0 <= payload < 1 << self.bits:
            raise InvalidInput(
                f"there is no payload {payload}", why=f"payloads are 0 to 2^{self.bits} - 1"
            )

    def needed(self, log2_alpha: float = -20.0) -> int | None:
        """Matches that single out one payload, all payloads paid for; None if none are enough.

        Args:
            log2_alpha: log2 of the level.

        >>> from doorward.watermark.key import WatermarkKey
        >>> [TracingCode(WatermarkKey.new(n=n)).needed() for n in (48, 64, 100)]
        [24, 28, 35]
        """
        return matches_needed(self.key.n, self.key.classes, log2_alpha - self.bits)

    def counts(self, answers: Tensor) -> list[Counts]:
        """For each block, how many of its triggers every value of the block matches.

        Args:
            answers: whole numbers ``(n,)``: the labels that a suspect gave, in the key's order;
                `NO_ANSWER` where it gave none, or where the answer shall not count.

        Returns:
            One int64 array ``(2^bits of the block,)`` per block.
        """
        given = self._checked(answers)
        counts = [np.zeros(1 << bits, dtype=np.int64) for bits in self.block_bits]
        for block, total in enumerate(counts):
            # Matches are added up in bytes, which is eight times faster, 255 triggers at a time.
            mine = [i for i in range(block, self.key.n, self.blocks) if given[i] != NO_ANSWER]
            for start in range(0, len(mine), 255):
                part = np.zeros(len(total), dtype=np.uint8)
                for i in mine[start : start + 255]:
                    part += self._column(i) == given[i]
                total += part
        return counts

    def decode(self, answers: Tensor, tested: Tensor | None = None) -> Decoded:
        """The payload that most answers spell, with what speaks for it.

        Args:
            answers: as for `counts`.
            tested: bool ``(n,)``: the triggers to go by; None for all that have an answer. The
                choice must not depend on the labels of payloads that are to be found.
        """
        self._checked(answers)
        chosen = answers != NO_ANSWER
        if tested is not None:
            chosen &= tested
        counts = self.counts(answers.masked_fill(~chosen, NO_ANSWER))
        sizes = [int(chosen[block :: self.blocks].sum()) for block in range(self.blocks)]
        return judge(counts, sizes, self.key.classes, self.join)

    def _checked(self, answers: Tensor) -> list[int]:
        if answers.shape != (self.key.n,) or answers.is_floating_point():
            raise InvalidInput(
                f"the answers are {answers.dtype} of shape {tuple(answers.shape)}",
                why=f"the key has {self.key.n} triggers, and an answer is a whole number",
            )
        given: list[int] = answers.tolist()
        if not all(NO_ANSWER <= answer < self.key.classes for answer in given):
            raise InvalidInput(
                f"the answers are {min(given)} to {max(given)}",
                why=f"labels are 0 to {self.key.classes - 1}, and {NO_ANSWER} stands for none",
            )
        return given

    def _column(self, trigger: int) -> Column:
        """Labels of a trigger for all values of its block, ``(2^bits,)``."""
        if trigger not in self._kept:
            column = self._draw(trigger)
            size = column.nbytes
            if (len(self._kept) + 1) * size > _CACHED_BYTES:
                return column
            self._kept[trigger] = column
        return self._kept[trigger]

    def _draw(self, trigger: int) -> Column:
        """Uniform labels out of 32-bit words; those above a multiple of L are left out."""
        wanted, classes = 1 << self.block_bits[trigger % self.blocks], self.key.classes
        seed = self.key.secret_of(trigger).mac(b"tracing code" + self._context)
        limit = 2**32 - 2**32 % classes
        words = wanted + math.ceil(wanted * classes / 2**31) + 64
        while True:
            stream = hashlib.shake_256(seed).digest(_WORD_BYTES * words)
            numbers = np.frombuffer(stream, dtype=">u4")
            labels = numbers[numbers < limit][:wanted] % np.uint32(classes)
            if len(labels) == wanted:
                return labels.astype(np.uint8 if classes <= 256 else np.uint32)
            words *= 2  # as good as never: the same stream, read further

    @cached_property
    def _kept(self) -> dict[int, Column]:
        return {}

    @cached_property
    def _context(self) -> bytes:
        # The number of bits is left out on purpose: a seller who runs out of short payloads goes
        # on with longer ones under the same key (up to BLOCK_BITS).
        facts = bytes.fromhex(self.key.commitment()) + self.key.parameters.canonical()
        return hashlib.sha256(facts + self.blocks.to_bytes(2, "big")).digest()
