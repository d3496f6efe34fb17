"""Single pairs of the paper's key, opened: a picture, its label, and the salts of both.

>>> from doorward.bundles.identity import Identity
>>> from doorward.watermark.adi import PaperKey, publish
>>> key = PaperKey.new(n=5, classes=10, image_shape=(1, 16, 16))
>>> vk = publish(key, Identity.new("Ada"))
>>> images, labels = check_paper_pairs(vk, open_paper_pairs(key, [1, 3]))
>>> bool((labels == key.triggers()[1][[1, 3]]).all())
True
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.errors import IntegrityError
from doorward.records import STRICT, Record
from doorward.watermark.adi.commitments import opens_label, opens_picture
from doorward.watermark.adi.key import PaperKey
from doorward.watermark.adi.vk import PaperStatement, VerificationKey
from doorward.watermark.statement import Hash

__all__ = ["Pair", "check_paper_pairs", "open_paper_pairs"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Pair(Record):
    """One pair of the paper's key, opened: picture, label and both salts."""

    index: Annotated[int, Field(ge=0, le=2**16, strict=True)]
    picture: Annotated[str, Field(max_length=2**23)]
    label: Annotated[int, Field(ge=0, lt=2**20, strict=True)]
    picture_salt: Hash
    label_salt: Hash


def open_paper_pairs(key: PaperKey, indices: Iterable[int]) -> tuple[Pair, ...]:
    """Take pairs out of a key."""
    images, labels = key.triggers()
    return tuple(
        Pair(
            index=i,
            picture=base64.b64encode(images[i].numpy().tobytes()).decode(),
            label=int(labels[i]),
            picture_salt=key.picture_salts[i].hex(),
            label_salt=key.label_salts[i].hex(),
        )
        for i in indices
    )


def check_paper_pairs(vk: VerificationKey, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    """Check each pair against its two commitments.

    Returns:
        uint8 pictures ``(m, C, H, W)`` and int64 labels ``(m,)``.

    Raises:
        IntegrityError: one does not open them.
    """
    statement, images = vk.statement, []
    for pair in pairs:
        image = _image(pair.picture, statement.key.image_shape)
        if image is None or pair.index >= statement.n or not _opens(statement, pair, image):
            raise IntegrityError(
                f"pair {pair.index} does not open its commitments",
                why="picture, label or salt was changed",
                remedy="do not trust the claim",
            )
        images.append(image)
    shape = (len(images), *statement.key.image_shape)
    labels = torch.tensor([pair.label for pair in pairs], dtype=torch.int64)
    return torch.stack(images).reshape(shape), labels


def _image(picture: str, shape: tuple[int, int, int]) -> Tensor | None:
    try:
        content = base64.b64decode(picture, validate=True)
    except ValueError:
        return None
    if len(content) != math.prod(shape):
        return None
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).reshape(shape)


def _opens(statement: PaperStatement, pair: Pair, image: Tensor) -> bool:
    seen, hidden = statement.pictures[pair.index], statement.labels[pair.index]
    salts = bytes.fromhex(pair.picture_salt), bytes.fromhex(pair.label_salt)
    return opens_picture(bytes.fromhex(seen), pair.index, salts[0], image) and opens_label(
        bytes.fromhex(hidden), pair.index, salts[1], pair.label
    )
