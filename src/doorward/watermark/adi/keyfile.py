"""The inside of a sealed marking key: what is public of it, and its secret bytes.

>>> facts = KeyFacts(n=1, classes=10, image_shape=(1, 8, 8), law="uniform")
>>> images, labels = torch.zeros(1, 1, 8, 8, dtype=torch.uint8), torch.tensor([7])
>>> content = pack(images, labels, [bytes(32)], [bytes(32)])
>>> len(content), unpack(facts, content)[1]
(132, tensor([7]))

The layout has no lengths of its own: everything follows from the public facts, so that there is
nothing to parse that could be wrong, save the size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.records import STRICT, Record, Version1
from doorward.watermark.adi.chance import MOST_PICTURES, Law
from doorward.watermark.adi.commitments import SALT_BYTES
from doorward.watermark.patterns import check_image_shape

__all__ = ["KeyFacts", "pack", "unpack"]

_MAX_BYTES = 32 * 2**20
"""Of all pictures together: the sealed file stays below what is read of any JSON document."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class KeyFacts(Record):
    """What a marking key is for.

    Attributes:
        n: pictures.
        classes: number of classes L.
        image_shape: ``(C, H, W)``.
        law: ``"uniform"`` if the labels were drawn uniformly, ``"shuffled"`` if they were given.
    """

    scheme: Literal["adi-2018"] = "adi-2018"
    version: Version1 = 1
    n: Annotated[int, Field(ge=1, le=MOST_PICTURES, strict=True)]
    classes: Annotated[int, Field(ge=2, le=2**20, strict=True)]
    image_shape: tuple[int, int, int]
    law: Law

    def __post_init__(self) -> None:
        check_image_shape(self.image_shape)
        if self.n * math.prod(self.image_shape) > _MAX_BYTES:
            raise InvalidInput(
                f"{self.n} pictures {self.image_shape} are larger than {_MAX_BYTES >> 20} MiB",
                remedy="take fewer pictures: the paper's 100 are plenty",
            )


def pack(
    images: Tensor, labels: Tensor, picture_salts: Sequence[bytes], label_salts: Sequence[bytes]
) -> bytes:
    """Labels (4 bytes each, big-endian), picture salts, label salts, pixels."""
    numbers = b"".join(label.to_bytes(4, "big") for label in labels.tolist())
    return b"".join([numbers, *picture_salts, *label_salts, images.contiguous().numpy().tobytes()])


def unpack(
    facts: KeyFacts, content: bytes
) -> tuple[Tensor, Tensor, tuple[bytes, ...], tuple[bytes, ...]]:
    """What `pack` was given.

    Raises:
        InvalidInput: the content has another size than the facts ask for.
    """
    n, pixels = facts.n, facts.n * math.prod(facts.image_shape)
    expected = n * (4 + 2 * SALT_BYTES) + pixels
    if len(content) != expected:
        raise InvalidInput(f"the key has {len(content)} bytes", why=f"{n} pictures need {expected}")
    numbers = [int.from_bytes(content[4 * i : 4 * i + 4], "big") for i in range(n)]
    starts = range(4 * n, 4 * n + 2 * n * SALT_BYTES, SALT_BYTES)
    salts = [content[start : start + SALT_BYTES] for start in starts]
    images = torch.frombuffer(bytearray(content[-pixels:]), dtype=torch.uint8)
    return (
        images.reshape(n, *facts.image_shape),
        torch.tensor(numbers, dtype=torch.int64),
        tuple(salts[:n]),
        tuple(salts[n:]),
    )
