"""From secrets to triggers: the public half of the derivation, which a judge repeats.

>>> from doorward.randomness import Secret
>>> parameters = KeyParameters(n=2, classes=10, image_shape=(1, 16, 16))
>>> images, labels = draw_triggers(parameters, bytes(32), [Secret(bytes(32))])
>>> images.shape, labels.shape
(torch.Size([1, 1, 16, 16]), torch.Size([1]))

What a trigger is follows from its own secret, the Merkle root over the secrets of all triggers, and
the public parameters; `doorward.watermark.key` says why.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.files import canonical_json
from doorward.randomness import Secret
from doorward.records import STRICT, Record, Version1
from doorward.watermark.patterns import (
    DEFAULT_GENERATOR,
    GENERATORS,
    check_image_shape,
    generate,
)

__all__ = ["Beacon", "KeyParameters", "draw_triggers"]

_MAX_BYTES = 2**30
"""Of all trigger images together; a stranger's key may not ask for more."""


def _is_shown_as_it_is(value: str) -> str:
    if not value.isprintable():
        raise ValueError("a beacon's value holds printable characters only")
    return value


Beacon = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_is_shown_as_it_is)]
"""A public random value. It is shown in terminals, so it holds no escape sequences."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class KeyParameters(Record):
    """What is public about a key; every field takes part in the derivation of the triggers.

    Attributes:
        n: number of triggers.
        classes: number of classes L of the model that will be marked.
        image_shape: ``(C, H, W)`` of the model's input.
        owner: fingerprint of the owner's public identity. Triggers made for one owner are not
            those of another, so a key that was shown in a dispute is of no use to its reader.
        generator: name of the pattern generator.
        beacon: public random value from the time of the key's making, if the owner gave one: as
            images and labels hang on it, nobody knew them before.
    """

    scheme: Literal["doorward-keyed"] = "doorward-keyed"
    version: Version1 = 1
    n: Annotated[int, Field(ge=1, le=2**16, strict=True)] = 100
    classes: Annotated[int, Field(ge=2, le=2**20, strict=True)] = 10
    image_shape: tuple[int, int, int] = (3, 32, 32)
    owner: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    generator: Annotated[str, Field(max_length=100)] = DEFAULT_GENERATOR
    beacon: Beacon | None = None

    def __post_init__(self) -> None:
        check_image_shape(self.image_shape)
        GENERATORS[self.generator]  # raises UnknownName
        if self.n * math.prod(self.image_shape) > _MAX_BYTES:
            raise InvalidInput(
                f"{self.n} triggers {self.image_shape} are larger than {_MAX_BYTES >> 20} MiB",
                remedy="make a key with fewer triggers: 100 are plenty",
            )

    def canonical(self) -> bytes:
        """The bytes that triggers are derived from: all fields that have a value.

        An optional field that a later version adds thus leaves the keys of today as they are.
        """
        return canonical_json({k: v for k, v in self.to_dict().items() if v is not None})


def draw_triggers(
    parameters: KeyParameters, root: bytes, secrets: Sequence[Secret]
) -> tuple[Tensor, Tensor]:
    """Draw trigger images and labels from the triggers' secrets, as anybody can who is shown them.

    Args:
        parameters: the public parameters of the key.
        root: its Merkle root, 32 bytes. That each secret is under it is for the caller to check
            (`bundles.verify_proof` of ``bundles.leaf(i, secret)``).
        secrets: of some or all triggers.

    Returns:
        uint8 images ``(m, C, H, W)`` and int64 labels ``(m,)``.
    """
    context = hashlib.sha256(root + parameters.canonical()).digest()
    seeds = [secret.mac(b"image" + context) for secret in secrets]
    images = generate(seeds, parameters.image_shape, parameters.generator)
    labels = [
        secret.integer(
            b"label" + context + hashlib.sha256(image.numpy().tobytes()).digest(),
            parameters.classes,
        )
        for secret, image in zip(secrets, images, strict=True)
    ]
    return images, torch.tensor(labels, dtype=torch.int64)
