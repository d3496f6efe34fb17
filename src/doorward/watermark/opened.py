"""Single triggers shown to the world, and what anybody can make of them.

>>> from doorward.watermark.key import WatermarkKey
>>> key = WatermarkKey.new(n=50, classes=10, image_shape=(1, 16, 16))
>>> opened = open_triggers(key, range(20, 24))
>>> revealed = RevealedTriggers(key.parameters, key.tree().root, opened)
>>> bool((revealed.triggers()[1] == key.triggers()[1][20:24]).all())
True

A trigger is shown by its secret and its way up the Merkle tree. Image and label are not sent along:
whoever checks draws them again, so they cannot be anything else than what the root commits to. The
other secrets stay hidden: each is an independent HMAC, and its leaf a hash of 256 secret bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.bundles.merkle import MerkleProof, leaf, verify_proof
from doorward.errors import IntegrityError
from doorward.randomness import Secret
from doorward.records import STRICT, Record
from doorward.watermark.derivation import KeyParameters, draw_triggers
from doorward.watermark.key import WatermarkKey
from doorward.watermark.statement import Hash

__all__ = ["OpenedTrigger", "RevealedTriggers", "open_triggers"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OpenedTrigger(Record):
    """One trigger, shown.

    Attributes:
        index: which of the key's triggers, from 0.
        secret: its 32 secret bytes, hex.
        path: sibling hashes from its leaf to the root, hex (see `bundles.MerkleProof`).
    """

    index: Annotated[int, Field(ge=0, le=2**16, strict=True)]
    secret: Hash
    path: Annotated[tuple[Hash, ...], Field(max_length=64)]


def open_triggers(key: WatermarkKey, indices: Iterable[int]) -> tuple[OpenedTrigger, ...]:
    """Take triggers out of a key. This gives their secrets away: note it in a ledger first.

    Raises:
        InvalidInput: there is no trigger of such a number.
    """
    tree = key.tree()
    return tuple(
        OpenedTrigger(
            index=index, secret=key.secret_of(index).reveal().hex(), path=tree.proof(index).path
        )
        for index in indices
    )


class RevealedTriggers:
    """Opened triggers, checked and drawn again: a `TriggerSet` for `count_matches`.

    Args:
        parameters: the key's public parameters, from the claim.
        root: the claim's Merkle root, 32 bytes.
        opened: what the owner showed.

    Raises:
        IntegrityError: a secret or its path is not what the root commits to, or a trigger is shown
            twice.
    """

    def __init__(
        self, parameters: KeyParameters, root: bytes, opened: Sequence[OpenedTrigger]
    ) -> None:
        if len({trigger.index for trigger in opened}) != len(opened):
            raise IntegrityError("a trigger is shown twice", remedy="do not trust the opening")
        secrets = []
        for trigger in opened:
            proof = MerkleProof(index=trigger.index, size=parameters.n, path=trigger.path)
            secret = bytes.fromhex(trigger.secret)
            verify_proof(root, leaf(trigger.index, secret), proof)
            secrets.append(Secret(secret))
        self._parameters, self._root = parameters, root
        self._images, self._labels = draw_triggers(parameters, root, secrets)

    @property
    def n(self) -> int:
        """Number of opened triggers."""
        return len(self._labels)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self._parameters.classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        return self._parameters.image_shape

    def triggers(self) -> tuple[Tensor, Tensor]:
        """The images, uint8 ``(n, C, H, W)``, and labels, int64 ``(n,)``; fresh copies."""
        return self._images.clone(), self._labels.clone()

    def commitment(self) -> str:
        """The Merkle root that these, and the triggers not shown, stand under."""
        return self._root.hex()
