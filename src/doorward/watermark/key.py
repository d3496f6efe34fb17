"""The owner's secret: a seed that trigger images, labels and salts are derived from.

>>> key = WatermarkKey.new(n=20, classes=10, image_shape=(1, 16, 16))
>>> images, labels = key.triggers()
>>> images.shape, images.dtype, labels.shape
(torch.Size([20, 1, 16, 16]), torch.uint8, torch.Size([20]))
>>> len(key.commitment()), key
(64, WatermarkKey(n=20, classes=10, image_shape=(1, 16, 16), owner=None, seed hidden))

Adi et al. (2018) choose 100 pictures and label them at random; what the owner may choose, a false
accuser may choose too (Liu et al. 2024 submit adversarial examples as "triggers"). Here, as in
ChainMarks and Zhu et al. (2020), everything follows from 32 random bytes, in two steps. They give
every trigger a secret of its own, and a Merkle tree commits to these secrets. A trigger's secret
and the tree's root then give its image (by the public generator of
`doorward.watermark.patterns`) and its label (a keyed hash of the image). The labels are uniform
and independent of any model that was not trained on them, which is what makes the p-value of
`doorward.watermark.verification` exact.

Because the root comes first, a trigger can be shown without showing the others: `draw_triggers`
gives everybody its image and label again from its secret, and whoever exchanges one secret to get
a label that suits a model changes the root, and with it every other image and label.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.bundles.identity import PublicIdentity
from doorward.bundles.merkle import MerkleTree, leaf
from doorward.bundles.sealing import seal_file, unseal_file
from doorward.errors import InvalidInput, KeyRefused
from doorward.files import canonical_json
from doorward.randomness import Secret
from doorward.records import STRICT, Record
from doorward.watermark.patterns import (
    DEFAULT_GENERATOR,
    GENERATORS,
    check_image_shape,
    generate,
)

__all__ = ["KeyParameters", "WatermarkKey", "draw_triggers"]

_PURPOSE = "watermark-key"
_MAX_BYTES = 2**30  # of all trigger images together; a stranger's key may not ask for more


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
    """

    scheme: Literal["doorward-keyed"] = "doorward-keyed"
    version: Literal[1] = 1
    n: Annotated[int, Field(ge=1, le=2**16, strict=True)] = 100
    classes: Annotated[int, Field(ge=2, le=2**20, strict=True)] = 10
    image_shape: tuple[int, int, int] = (3, 32, 32)
    owner: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    generator: Annotated[str, Field(max_length=100)] = DEFAULT_GENERATOR

    def __post_init__(self) -> None:
        check_image_shape(self.image_shape)
        GENERATORS[self.generator]  # raises UnknownName
        if self.n * math.prod(self.image_shape) > _MAX_BYTES:
            raise InvalidInput(
                f"{self.n} triggers {self.image_shape} are larger than {_MAX_BYTES >> 20} MiB",
                remedy="make a key with fewer triggers: 100 are plenty",
            )

    def canonical(self) -> bytes:
        """The bytes that the triggers are derived from. Fields without a value do not take part,
        so that an optional field which a later version adds leaves the keys of today alone."""
        return canonical_json({k: v for k, v in self.to_dict().items() if v is not None})


class WatermarkKey:
    """A watermark key: secret seed plus public parameters.

    Make one with `new`, store it with `seal`, read it with `open`. Its `repr` hides the seed, and
    it cannot be pickled.

    Args:
        seed: the secret, at least 16 bytes.
        parameters: the public part.
    """

    def __init__(self, seed: Secret, parameters: KeyParameters) -> None:
        self.parameters = parameters
        self._seed = seed
        self._master = seed.derive("doorward watermark\0" + parameters.canonical().decode())

    @classmethod
    def new(
        cls,
        n: int = 100,
        classes: int = 10,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        owner: PublicIdentity | None = None,
        *,
        generator: str = DEFAULT_GENERATOR,
    ) -> WatermarkKey:
        """Draw a key from the operating system's random numbers.

        Args:
            n: triggers; 100 allow p-values down to ``classes ** -100``.
            classes: number of classes of the model.
            image_shape: ``(C, H, W)`` of its input, C in {1, 3}, sides of 8 to 1024 pixels.
            owner: who will claim with this key. None leaves the key unbound: whoever gets hold
                of it could then sign a claim of their own.
            generator: a name in `GENERATORS`.

        Raises:
            InvalidInput: a number or the shape is out of range.
            UnknownName: no such generator.
        """
        GENERATORS[generator]  # raises UnknownName, which a record would wrap
        parameters = KeyParameters.from_dict(
            {
                "n": n,
                "classes": classes,
                "image_shape": tuple(image_shape),
                "owner": owner.fingerprint if owner else None,
                "generator": generator,
            }
        )
        return cls(Secret.new(), parameters)

    @property
    def n(self) -> int:
        """Number of triggers."""
        return self.parameters.n

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.parameters.classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        return self.parameters.image_shape

    @property
    def owner(self) -> str | None:
        """Fingerprint of the owner's identity, None for an unbound key."""
        return self.parameters.owner

    def triggers(self) -> tuple[Tensor, Tensor]:
        """The trigger images and the labels that a marked model gives them.

        Returns:
            uint8 ``(n, C, H, W)`` and int64 ``(n,)``, on the CPU; fresh copies.
        """
        images, labels = self._drawn
        return images.clone(), labels.clone()

    def tree(self) -> MerkleTree:
        """The Merkle tree whose leaf *i* commits to the secret of trigger *i*."""
        return MerkleTree([leaf(i, secret.reveal()) for i, secret in enumerate(self._secrets)])

    def commitment(self) -> str:
        """The Merkle root as hex: what a claim publishes about this key."""
        return self.tree().root.hex()

    def seal(
        self,
        path: str | os.PathLike[str],
        passphrase: str,
        *,
        log2_n: int = 17,
        overwrite: bool = False,
    ) -> None:
        """Write the key to `path`, sealed with `passphrase`, readable by its owner only.

        Args:
            path: the file, mode 0600.
            passphrase: not empty.
            log2_n: scrypt's cost (lower it in tests only).
            overwrite: replace an existing file.

        Raises:
            InvalidInput: empty passphrase, or the file exists already.
            StorageFailed: it could not be written.
        """
        seal_file(
            path,
            self._seed,
            passphrase,
            purpose=_PURPOSE,
            public=self.parameters.to_dict(),
            log2_n=log2_n,
            overwrite=overwrite,
        )

    @classmethod
    def open(cls, path: str | os.PathLike[str], passphrase: str) -> WatermarkKey:
        """Read a key that `seal` wrote.

        Raises:
            MissingData: there is no such file.
            KeyRefused: wrong passphrase, or the file is damaged or no watermark key.
        """
        seed, public = unseal_file(path, passphrase, purpose=_PURPOSE)
        try:
            return cls(Secret(seed), KeyParameters.from_dict(public))
        except InvalidInput as error:
            raise KeyRefused(
                f"{path} holds no watermark key of this version",
                why=error.why or error.what,
                remedy="use the version of doorward that made it, or your backup",
            ) from error

    @cached_property
    def _secrets(self) -> tuple[Secret, ...]:
        return tuple(Secret(self._master.mac(_number(i))) for i in range(self.n))

    @cached_property
    def _drawn(self) -> tuple[Tensor, Tensor]:
        return draw_triggers(self.parameters, self.tree().root, self._secrets)

    def __repr__(self) -> str:
        p = self.parameters
        return (
            f"WatermarkKey(n={p.n}, classes={p.classes}, image_shape={p.image_shape}, "
            f"owner={p.owner[:16] if p.owner else None}, seed hidden)"
        )

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("keys are not pickled; seal them with WatermarkKey.seal")


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


def _number(value: int) -> bytes:
    return value.to_bytes(4, "big")
