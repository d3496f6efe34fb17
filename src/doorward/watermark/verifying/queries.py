"""What a suspect is asked, in which order: triggers hidden among other questions.

>>> from doorward.watermark.key import WatermarkKey
>>> from doorward.watermark.verifying.shown import Shown
>>> key = WatermarkKey.new(n=20, classes=10, image_shape=(1, 16, 16))
>>> plan = QueryPlan(cover_share=0.5, repeat_share=0.2)
>>> queries = Queries(plan, Shown.by(key), Secret.new())
>>> len(queries), sorted(set(queries.kinds))
(44, ['cover', 'repeat', 'trigger'])

A suspect may try to tell triggers from ordinary pictures and refuse them, or answer them falsely
("capsulation", arXiv 2208.14127). So they come at unforeseeable places among cover queries:

- *Images of the suspect's own task*, which the verifier gives, are the better covers. A filter that
  turns away whatever looks strange then turns away triggers and not covers, which
  `doorward.watermark.behaviour` notices; and the requests look more like somebody's ordinary use.
- *Look-alikes*, drawn by the key's own generator from other secrets, need no data. Nobody without
  the key can tell them from triggers, so they hide which of the strange pictures matter, and show
  whether a suspect knows the key's very pictures; but a filter treats them like triggers, so they
  cannot show that there is one.

Order, choice of covers and noise all follow from one secret seed, which is drawn for each
verification from the system's random numbers. Whoever is shown it later can repeat everything; the
suspect cannot foresee anything.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, TypeVar

import torch
from torch import Tensor

from doorward.bundles.merkle import commit
from doorward.data import ImageSource
from doorward.errors import InvalidInput
from doorward.randomness import Secret
from doorward.watermark.derivation import KeyParameters
from doorward.watermark.patterns import generate
from doorward.watermark.verifying.plan import QueryPlan
from doorward.watermark.verifying.shown import Shown

__all__ = ["Kind", "Queries", "trigger_commitments"]

Kind = Literal["trigger", "cover", "repeat", "jittered trigger", "jittered cover"]

_MAX_BYTES = 2**30
"""Of all cover images together; a stranger's transcript may not ask for more."""

T = TypeVar("T")


class Queries:
    """All questions of one verification, in their order.

    Args:
        plan: what to ask.
        shown: the triggers.
        seed: decides order, covers and noise; fresh from the system for each verification.
        covers: images of the suspect's task, of the key's shape; None for look-alikes.

    Raises:
        InvalidInput: the covers have another shape, or are too few or too large for the plan.
    """

    def __init__(
        self, plan: QueryPlan, shown: Shown, seed: Secret, covers: ImageSource | None = None
    ) -> None:
        self.plan, self.shown, self.seed, self.source = plan, shown, seed, covers
        self._covers = plan.covers(len(shown))
        _check_covers(self._covers, shown.parameters, covers)
        self._order = _lay_out(plan, len(shown), self._covers, seed)

    def __len__(self) -> int:
        return len(self._order)

    @cached_property
    def seal(self) -> str:
        """Hash of the seed, hex: binds a verifier to the seed before it is shown."""
        return hashlib.sha256(b"doorward queries\0" + self.seed.reveal()).hexdigest()

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What is asked about at each place."""
        return tuple(kind for kind, _ in self._order)

    def places(self, kind: Kind) -> dict[int, int]:
        """Where each trigger or cover (by its number among them) is asked about in this way."""
        return {number: place for place, (k, number) in enumerate(self._order) if k == kind}

    def images(self, places: Sequence[int]) -> Tensor:
        """The uint8 images ``(B, C, H, W)`` at some places of the order."""
        return torch.stack([self._image(*self._order[place]) for place in places])

    def commitments(self, places: Sequence[int] | None = None) -> tuple[str, ...]:
        """A salted hash of each question's image, hex, in the order asked.

        The salts of triggers follow from their own secrets, so that whoever is shown a trigger
        finds it (`trigger_commitments`); those of covers follow from the seed.

        Args:
            places: at these places only.
        """
        chosen = self._order if places is None else [self._order[place] for place in places]
        return tuple(
            _hash(self._salt(kind, number), self._image(kind, number)) for kind, number in chosen
        )

    def _salt(self, kind: Kind, number: int) -> bytes:
        if kind in ("trigger", "jittered trigger"):
            return _trigger_salt(self.shown.secrets[number], kind, self.seal)
        return self.seed.mac(f"salt of {kind} {number}".encode())

    def _image(self, kind: Kind, number: int) -> Tensor:
        if kind == "trigger":
            return self.shown.images[number]
        if kind == "jittered trigger":
            secret = self.shown.secrets[number]
            noise = secret.mac(b"jitter" + bytes.fromhex(self.seal))
            return _jittered(self.shown.images[number], noise, self.plan.jitter)
        image = self._cover_images[number]
        if kind == "jittered cover":
            return _jittered(image, self.seed.mac(f"jitter {number}".encode()), self.plan.jitter)
        return image

    @cached_property
    def _cover_images(self) -> Tensor:
        parameters = self.shown.parameters
        if self.source is None:
            seeds = [self.seed.mac(f"look-alike {j}".encode()) for j in range(self._covers)]
            return generate(seeds, parameters.image_shape, parameters.generator)
        chosen = _shuffled(range(len(self.source)), self.seed, "covers")[: self._covers]
        return self.source.fetch(torch.tensor(chosen, dtype=torch.int64))[0].cpu()


def trigger_commitments(shown: Shown, seal: str) -> tuple[str, ...]:
    """What `Queries.commitments` holds for the triggers themselves: one each, in their order.

    Args:
        shown: the triggers.
        seal: `Queries.seal` of the verification.
    """
    return tuple(
        _hash(_trigger_salt(secret, "trigger", seal), image)
        for secret, image in zip(shown.secrets, shown.images, strict=True)
    )


def _hash(salt: bytes, image: Tensor) -> str:
    return commit(salt, image.numpy().tobytes()).hex()


def _trigger_salt(secret: Secret, kind: Kind, seal: str) -> bytes:
    return secret.mac(f"query of a {kind}\0{seal}".encode())


def _lay_out(
    plan: QueryPlan, triggers: int, covers: int, seed: Secret
) -> tuple[tuple[Kind, int], ...]:
    def some(count: int, share: float, purpose: str) -> list[int]:
        return _shuffled(range(count), seed, purpose)[: round(share * count)]

    wanted: list[tuple[Kind, Sequence[int]]] = [
        ("trigger", range(triggers)),
        ("cover", range(covers)),
        ("repeat", some(covers, plan.repeat_share, "repeats")),
        ("jittered trigger", some(triggers, plan.jitter_share, "jittered triggers")),
        ("jittered cover", some(covers, plan.jitter_share, "jittered covers")),
    ]
    listed = [(kind, number) for kind, numbers in wanted for number in numbers]
    return tuple(_shuffled(listed, seed, "order"))


def _shuffled(items: Sequence[T], seed: Secret, purpose: str) -> list[T]:
    """A uniform permutation (Fisher and Yates) that follows from the seed."""
    shuffled, keyed = list(items), seed.derive(purpose)
    for place in range(len(shuffled) - 1, 0, -1):
        other = keyed.integer(place.to_bytes(4, "big"), place + 1)
        shuffled[place], shuffled[other] = shuffled[other], shuffled[place]
    return shuffled


def _jittered(image: Tensor, noise: bytes, most: int) -> Tensor:
    """The image with uniform noise of up to `most` on each pixel, clipped."""
    stream = hashlib.shake_256(noise).digest(image.numel())
    steps = torch.frombuffer(bytearray(stream), dtype=torch.uint8).reshape(image.shape).int()
    return (image.int() + steps % (2 * most + 1) - most).clamp(0, 255).to(torch.uint8)


def _check_covers(count: int, parameters: KeyParameters, source: ImageSource | None) -> None:
    if count * math.prod(parameters.image_shape) > _MAX_BYTES:
        raise InvalidInput(
            f"{count} covers {parameters.image_shape} are larger than {_MAX_BYTES >> 20} MiB",
            remedy="choose a smaller cover_share",
        )
    if source is None:
        return
    if tuple(source.image_shape) != tuple(parameters.image_shape):
        raise InvalidInput(
            f"the covers {source.name} have shape {tuple(source.image_shape)}",
            why=f"the triggers have {tuple(parameters.image_shape)}",
            remedy="resize the covers, or turn them grey or into colour",
        )
    if len(source) < count:
        raise InvalidInput(
            f"the plan asks for {count} covers, and {source.name} has {len(source)}",
            remedy="give more images, or choose a smaller cover_share",
        )
