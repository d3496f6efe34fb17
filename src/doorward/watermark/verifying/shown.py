"""Triggers in the hands of a verifier: what an owner has shown, with all that follows from it.

>>> from doorward.watermark.key import WatermarkKey
>>> from doorward.watermark.opened import open_triggers
>>> key = WatermarkKey.new(n=20, classes=10, image_shape=(1, 16, 16))
>>> everything = Shown.by(key)
>>> some = Shown.opened(key.parameters, key.commitment(), open_triggers(key, [3, 5]))
>>> len(everything), some.indices, bool((some.labels == everything.labels[[3, 5]]).all())
(20, (3, 5), True)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from doorward.randomness import Secret
from doorward.watermark.derivation import KeyParameters
from doorward.watermark.key import WatermarkKey
from doorward.watermark.opened import OpenedTrigger, RevealedTriggers

__all__ = ["Shown"]


@dataclass(frozen=True)
class Shown:
    """Triggers with their secrets, all or some of a key's.

    Attributes:
        parameters: the public parameters of the key.
        indices: their numbers in the key.
        secrets: their secrets.
        images: uint8 ``(m, C, H, W)``.
        labels: int64 ``(m,)``.
    """

    parameters: KeyParameters
    indices: tuple[int, ...]
    secrets: tuple[Secret, ...]
    images: Tensor
    labels: Tensor

    @classmethod
    def by(cls, key: WatermarkKey) -> Self:
        """All triggers of a key."""
        images, labels = key.triggers()
        secrets = tuple(key.secret_of(index) for index in range(key.n))
        return cls(key.parameters, tuple(range(key.n)), secrets, images, labels)

    @classmethod
    def opened(cls, parameters: KeyParameters, root: str, opened: Sequence[OpenedTrigger]) -> Self:
        """Some triggers, opened one by one; each is checked against the root (hex).

        Raises:
            IntegrityError: a secret or its path is not what the root commits to.
        """
        images, labels = RevealedTriggers(parameters, bytes.fromhex(root), opened).triggers()
        secrets = tuple(Secret(bytes.fromhex(trigger.secret)) for trigger in opened)
        return cls(parameters, tuple(trigger.index for trigger in opened), secrets, images, labels)

    def only(self, indices: Sequence[int]) -> Shown:
        """Those of the triggers that have these numbers, in the order of the numbers."""
        place_of = {index: place for place, index in enumerate(self.indices)}
        places = [place_of[index] for index in indices if index in place_of]
        return Shown(
            self.parameters,
            tuple(self.indices[place] for place in places),
            tuple(self.secrets[place] for place in places),
            self.images[places],
            self.labels[places],
        )

    def __len__(self) -> int:
        return len(self.indices)
