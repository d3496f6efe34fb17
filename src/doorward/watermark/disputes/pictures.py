"""Pictures and labels of anybody's choice, under a commitment: what a free-choice scheme accepts.

>>> import torch
>>> pictures = torch.zeros(3, 1, 16, 16, dtype=torch.uint8)
>>> chosen = ChosenPictures(images=pictures, labels=torch.tensor([1, 2, 3]), num_classes=10)
>>> chosen.n, chosen.image_shape, len(chosen.commitment())
(3, (1, 16, 16), 64)

In Adi et al. (2018) whoever makes a claim chooses its triggers. So may a false accuser; this is the
least that he needs. (The whole of the paper's scheme is `doorward.watermark.adi`.)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from doorward.bundles import MerkleTree, leaf
from doorward.errors import InvalidInput
from doorward.randomness import Secret

__all__ = ["ChosenPictures"]


@dataclass(frozen=True, eq=False, kw_only=True)
class ChosenPictures:
    """A `TriggerSet` of pictures that were chosen, not drawn.

    Args:
        images: uint8 ``(n, C, H, W)``, n >= 1.
        labels: int64 ``(n,)``, each in ``0..num_classes-1``.
        num_classes: L.
        salt: of the commitment; drawn if not given.

    Raises:
        InvalidInput: shapes, types or labels do not fit.
    """

    images: Tensor
    labels: Tensor
    num_classes: int
    salt: Secret = field(default_factory=Secret.new)

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != torch.uint8 or not len(self.images):
            raise InvalidInput(
                f"pictures are {self.images.dtype} of shape {tuple(self.images.shape)}",
                why="uint8 (n, C, H, W) with at least one picture is needed",
            )
        fits = self.labels.shape == self.images.shape[:1] and self.labels.dtype == torch.int64
        if not fits or int(self.labels.min()) < 0 or int(self.labels.max()) >= self.num_classes:
            raise InvalidInput(
                "labels do not fit the pictures",
                why=f"int64 ({len(self.images)},) in 0..{self.num_classes - 1} is needed",
            )

    @property
    def n(self) -> int:
        """Number of pictures."""
        return len(self.labels)

    @property
    def classes(self) -> int:
        """Number of classes L."""
        return self.num_classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def triggers(self) -> tuple[Tensor, Tensor]:
        """Fresh copies of pictures and labels."""
        return self.images.clone(), self.labels.clone()

    def commitment(self) -> str:
        """Merkle root over salted pictures and labels, as hex."""
        leaves = [
            leaf(
                i,
                self.salt.mac(i.to_bytes(4, "big")),
                image.numpy().tobytes(),
                int(label).to_bytes(4, "big"),
            )
            for i, (image, label) in enumerate(zip(self.images, self.labels, strict=True))
        ]
        return MerkleTree(leaves).root.hex()
