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

import os
from functools import cached_property

from torch import Tensor

from doorward.bundles.identity import PublicIdentity
from doorward.bundles.merkle import MerkleTree, leaf
from doorward.bundles.sealing import seal_file, unseal_file
from doorward.errors import InvalidInput, KeyRefused
from doorward.randomness import Secret
from doorward.watermark.derivation import KeyParameters, draw_triggers
from doorward.watermark.patterns import DEFAULT_GENERATOR, GENERATORS

__all__ = ["KeyParameters", "WatermarkKey", "draw_triggers"]

_PURPOSE = "watermark-key"


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
        beacon: str | None = None,
    ) -> WatermarkKey:
        """Draw a key from the operating system's random numbers.

        Args:
            n: triggers; 100 allow p-values down to ``classes ** -100``.
            classes: number of classes of the model.
            image_shape: ``(C, H, W)`` of its input, C in {1, 3}, sides of 8 to 1024 pixels.
            owner: who will claim with this key. None leaves the key unbound: whoever gets hold
                of it could then sign a claim of their own.
            generator: a name in `GENERATORS`.
            beacon: a public random value that nobody could know before a certain time (a round of
                a randomness beacon, a block's hash): the key is then provably younger than it.

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
                "beacon": beacon,
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

    def secret_of(self, index: int) -> Secret:
        """The secret of one trigger: with `tree` and `draw_triggers` it shows that trigger alone.

        Raises:
            InvalidInput: there is no trigger of this number.
        """
        if not 0 <= index < self.n:
            raise InvalidInput(f"there is no trigger {index}", why=f"the key has 0 to {self.n - 1}")
        return self._secrets[index]

    def tree(self) -> MerkleTree:
        """The Merkle tree whose leaf *i* commits to the secret of trigger *i*."""
        return MerkleTree([leaf(i, secret.reveal()) for i, secret in enumerate(self._secrets)])

    def commitment(self) -> str:
        """The Merkle root as hex: what a claim publishes about this key."""
        return self.tree().root.hex()

    def authenticate(self, message: bytes) -> bytes:
        """A code over `message` (32 bytes) that only who has the key can make or check.

        For the owner's own records about the key, as in `doorward.watermark.disclosure.burning`;
        it shows nothing of the triggers.
        """
        return self._master.derive("records").mac(message)

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


def _number(value: int) -> bytes:
    return value.to_bytes(4, "big")
