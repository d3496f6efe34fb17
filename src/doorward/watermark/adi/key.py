"""The marking key mk of the paper: pictures, a random label for each, and 2n salts.

>>> key = PaperKey.new(n=20, classes=10, image_shape=(1, 16, 16))
>>> images, labels = key.triggers()
>>> images.shape, labels.shape, len(key.commitments()[0])
(torch.Size([20, 1, 16, 16]), torch.Size([20]), 20)
>>> key
PaperKey(n=20, classes=10, image_shape=(1, 16, 16), contents hidden)

A `PaperKey` is a `TriggerSet` like any other: `embed` plants it, `count_matches` looks for it. What
is different from `WatermarkKey`: the owner may bring pictures of their own. So may a false accuser,
and submit pictures that every model gets wrong in the same way (Liu et al. 2024); commitments do
not prevent that. Use `WatermarkKey` where that matters, and this where the paper's scheme is asked
for.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence

import torch
from torch import Tensor

from doorward.bundles import seal_file, unseal_file
from doorward.errors import InvalidInput, KeyRefused
from doorward.randomness import Secret
from doorward.watermark.adi.chance import Law, chance_log2
from doorward.watermark.adi.commitments import (
    SALT_BYTES,
    commit_label,
    commit_picture,
    digest_of,
)
from doorward.watermark.adi.keyfile import KeyFacts, pack, unpack
from doorward.watermark.adi.labels import check_labels, draw_labels, given_labels
from doorward.watermark.adi.pictures import Fit, check_fit, list_pictures, load_pictures
from doorward.watermark.patterns import generate

__all__ = ["PURPOSE", "PaperKey"]

PURPOSE = "adi-marking-key"
"""Of the sealed file."""


class PaperKey:
    """A marking key. Make one with `new`, store it with `seal`, read it with `open`.

    Its `repr` hides the contents, and it cannot be pickled.

    Args:
        facts: what the key is for.
        images: uint8 ``(n, C, H, W)``, t_1 to t_n.
        labels: int64 ``(n,)``, l_1 to l_n, each in ``0..classes-1``.
        picture_salts: rt_1 to rt_n, 32 bytes each.
        label_salts: rl_1 to rl_n, 32 bytes each.

    Raises:
        InvalidInput: these do not fit each other.
    """

    def __init__(
        self,
        facts: KeyFacts,
        images: Tensor,
        labels: Tensor,
        picture_salts: Sequence[bytes],
        label_salts: Sequence[bytes],
    ) -> None:
        salts = [*picture_salts, *label_salts]
        fits = (
            images.dtype == torch.uint8
            and images.shape == (facts.n, *facts.image_shape)
            and labels.dtype == torch.int64
            and labels.shape == (facts.n,)
            and len(picture_salts) == len(label_salts) == facts.n
            and all(len(salt) == SALT_BYTES for salt in salts)
        )
        if not fits:
            raise InvalidInput(
                f"images {tuple(images.shape)}, labels {tuple(labels.shape)} and {len(salts)} "
                f"salts are no key",
                why=f"{facts.n} uint8 images {facts.image_shape}, as many int64 labels, and a salt "
                f"of {SALT_BYTES} bytes for each image and each label are needed",
            )
        check_labels(labels, facts.classes)
        self.facts = facts
        self._images, self._labels = images.cpu().contiguous().clone(), labels.cpu().clone()
        self.picture_salts, self.label_salts = tuple(picture_salts), tuple(label_salts)

    @classmethod
    def new(
        cls,
        n: int | None = None,
        classes: int = 10,
        image_shape: tuple[int, int, int] = (3, 32, 32),
        *,
        pictures: str | os.PathLike[str] | Tensor | None = None,
        fit: Fit = "crop",
        labels: str | os.PathLike[str] | Sequence[int] | None = None,
        seed: Secret | None = None,
    ) -> PaperKey:
        """KeyGen's first half: choose pictures, draw labels and salts from the system's CSPRNG.

        Args:
            n: pictures; 100 if they are drawn, else as many as there are in the folder.
            classes: number of classes L of the model.
            image_shape: ``(C, H, W)`` of its input.
            pictures: a folder of images (see `pictures.load_pictures`), uint8 images
                ``(n, C, H, W)``, or None to have abstract pictures drawn. They should be abstract:
                one that truly shows a class may get its true label by chance, and the judge then
                rejects the whole key.
            fit: how pictures from a folder are brought to size: ``"crop"`` or ``"resize"``.
            labels: None to draw them uniformly, as the paper does. Or a file of numbers, one a
                line, or the numbers themselves, in the pictures' order: these count as
                ``"shuffled"``, for which the exact test is the permutation test.
            seed: what drawn pictures follow from; None for a fresh secret. Whoever knows it knows
                the pictures.

        Raises:
            InvalidInput: a number, shape or label is out of range, or they do not fit each other.
            MissingData: there is no such folder or file, or no images in it.
            BadFile: a picture or the labels file is corrupt.
        """
        check_fit(fit)
        if pictures is None:
            source = seed or Secret.new()
            facts = _facts(100 if n is None else n, classes, image_shape, labels)
            seeds = [source.mac(b"adi picture" + i.to_bytes(4, "big")) for i in range(facts.n)]
            images = generate(seeds, facts.image_shape)
        elif seed is not None:
            raise InvalidInput("a seed and pictures were both given", remedy="give one of them")
        else:
            found = pictures if isinstance(pictures, Tensor) else list_pictures(pictures)
            if n is not None and n != len(found):
                raise InvalidInput(
                    f"{n} pictures are wanted", why=f"there are {len(found)}", remedy="leave n out"
                )
            facts = _facts(len(found), classes, image_shape, labels)
            images = (
                pictures
                if isinstance(pictures, Tensor)
                else load_pictures(pictures, image_shape, fit=fit)
            )
        return cls(
            facts,
            images,
            draw_labels(facts.n, facts.classes)
            if labels is None
            else given_labels(labels, facts.n, facts.classes),
            [secrets.token_bytes(SALT_BYTES) for _ in range(facts.n)],
            [secrets.token_bytes(SALT_BYTES) for _ in range(facts.n)],
        )

    @property
    def n(self) -> int:
        """Number of pictures, |T|."""
        return self.facts.n

    @property
    def classes(self) -> int:
        """Number of classes L."""
        return self.facts.classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        return self.facts.image_shape

    @property
    def law(self) -> Law:
        """What is known of the labels: ``"uniform"`` (drawn here) or ``"shuffled"`` (given)."""
        return self.facts.law

    def triggers(self) -> tuple[Tensor, Tensor]:
        """Pictures T and labels T_L: uint8 ``(n, C, H, W)``, int64 ``(n,)``, fresh copies."""
        return self._images.clone(), self._labels.clone()

    def commitments(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """ct_1 to ct_n and cl_1 to cl_n, hex: what the verification key publishes."""
        seen = zip(self.picture_salts, self._images, strict=True)
        hidden = zip(self.label_salts, self._labels.tolist(), strict=True)
        return (
            tuple(commit_picture(i, salt, image).hex() for i, (salt, image) in enumerate(seen)),
            tuple(commit_label(i, salt, label).hex() for i, (salt, label) in enumerate(hidden)),
        )

    def commitment(self) -> str:
        """One hash, hex, over all 2n commitments."""
        return digest_of(*self.commitments())

    def best_log2_p(self) -> float:
        """log2 of the p-value of a perfect match, under the weaker of the two null hypotheses.

        What a key can prove at all: 100 labels that are all the same prove nothing.
        """
        labels, classes = self._labels, self.classes
        return max(chance_log2(law, labels, labels, classes) for law in ("uniform", "shuffled"))

    def seal(
        self,
        path: str | os.PathLike[str],
        passphrase: str,
        *,
        log2_n: int = 17,
        overwrite: bool = False,
    ) -> None:
        """Write the key, pictures included, to `path`, sealed with `passphrase` (mode 0600).

        Args:
            path: the file.
            passphrase: not empty.
            log2_n: scrypt's cost (lower it in tests only).
            overwrite: replace an existing file.

        Raises:
            InvalidInput: empty passphrase, or the file exists already.
            StorageFailed: it could not be written.
        """
        content = pack(self._images, self._labels, self.picture_salts, self.label_salts)
        seal_file(
            path,
            content,
            passphrase,
            purpose=PURPOSE,
            public=self.facts.to_dict(),
            log2_n=log2_n,
            overwrite=overwrite,
        )

    @classmethod
    def open(cls, path: str | os.PathLike[str], passphrase: str) -> PaperKey:
        """Read a key that `seal` wrote.

        Raises:
            MissingData: there is no such file.
            KeyRefused: wrong passphrase, or the file is damaged or no marking key.
        """
        content, public = unseal_file(path, passphrase, purpose=PURPOSE)
        try:
            facts = KeyFacts.from_dict(public)
            return cls(facts, *unpack(facts, content))
        except InvalidInput as error:
            raise KeyRefused(
                f"{path} holds no marking key of this version",
                why=error.why or error.what,
                remedy="use the version of doorward that made it, or your backup",
            ) from error

    def __repr__(self) -> str:
        return (
            f"PaperKey(n={self.n}, classes={self.classes}, image_shape={self.image_shape}, "
            "contents hidden)"
        )

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("keys are not pickled; seal them with PaperKey.seal")


def _facts(n: int, classes: int, image_shape: Sequence[int], labels: object) -> KeyFacts:
    law = "uniform" if labels is None else "shuffled"
    shape = tuple(image_shape)
    return KeyFacts.from_dict({"n": n, "classes": classes, "image_shape": shape, "law": law})
