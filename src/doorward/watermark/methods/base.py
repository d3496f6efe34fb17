"""The ways to embed a mark: what a method may decide, and the plain one.

>>> Plain()
Plain(batchnorm='mixed', company=16, weight=1.0, shift=0, noise=0.0, warmup=0.0)
>>> make_embedding("plain", {"shift": 2}).shift
2
>>> EMBEDDINGS.names()
['app', 'app-margin', 'blended', 'certified', 'margin', 'plain']

A method is a frozen record of its options with up to three hooks, each of which has a default that
does nothing: what is shown to the network (`Embedding.examples`), where the images are moved to
before they are learnt (`Embedding.moved`), and what is learnt besides, at other weights
(`Embedding.besides`). To add one, subclass `Embedding` and register the class in `EMBEDDINGS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.data import Augment, Batch
from doorward.data.augmentation import augment
from doorward.errors import InvalidInput
from doorward.records import STRICT, Record
from doorward.registry import Registry
from doorward.watermark.methods.step import MarkStep, Slope

__all__ = ["EMBEDDINGS", "Embedding", "Plain", "Weight", "make_embedding", "name_of"]

Weight = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Embedding(Record):
    """The options that every method has.

    Args:
        batchnorm: ``"mixed"``: triggers are rows of the batch like any other. ``"clean"``: its
            BatchNorm statistics come from clean images alone (the recipe's policy ``"train"``
            becomes ``"clean-only"``).
        company: clean images that go along when a method looks at the triggers at other weights,
            for BatchNorm's statistics; none are needed by a network without BatchNorm.
        weight: what a trigger counts in the loss, where a clean image counts 1.
        shift: triggers are moved at random by up to this many pixels, either way, black beyond.
        noise: standard deviation of Gaussian noise on the triggers' pixels, in [0, 1].
        warmup: share of the training in which triggers are learnt as by ``"plain"``, before the
            method sets in.

    `exposures` is how often each trigger should be shown in the course of one training, where
    that is left to the method.
    """

    exposures: ClassVar[int] = 60
    batchnorm: Literal["mixed", "clean"] = "mixed"
    company: Annotated[int, Field(ge=2, strict=True)] = 16
    weight: Weight = 1.0
    shift: Annotated[int, Field(ge=0, le=512, strict=True)] = 0
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def examples(
        self, step: MarkStep, triggers: Tensor, labels: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor]:
        """What is shown of the triggers of a step.

        Args:
            step: random numbers are `step.generator`'s. With several processes, all triggers of
                the step are made by each, and dealt out afterwards.
            triggers: float (k, C, H, W) in [0, 1].
            labels: int64 (k,).
            batch: the clean images (with several processes, this one's share).

        Returns:
            Images (k, C, H, W) in [0, 1], and what they should be answered with: int64 labels
            (k,), or probabilities (k, K).
        """
        if self.shift:
            draws = step.generator("trigger shift")
            triggers = augment(triggers, Augment(pad_crop=self.shift), draws)
        if self.noise:
            noise = torch.randn(triggers.shape, generator=step.generator("trigger noise"))
            triggers = (triggers + self.noise * noise.to(triggers.device)).clamp(0, 1)
        return triggers, labels

    def moved(self, step: MarkStep, images: Tensor, targets: Tensor) -> Tensor:
        """The images that are learnt in place of `images`: themselves, unless overridden."""
        return images

    def besides(self, step: MarkStep, images: Tensor, targets: Tensor) -> Slope | None:
        """What is learnt besides, already weighted: a slope at other weights; None for nothing."""
        return None


EMBEDDINGS: Registry[type[Embedding]] = Registry("embedding method")
"""All embedding methods by name."""


@EMBEDDINGS.register("plain", paper="Adi et al. 2018", removal="none in particular")
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Plain(Embedding):
    """A few triggers in every batch, learnt like its images (Adi et al. 2018)."""


def make_embedding(method: str | Embedding, options: Mapping[str, Any] | None = None) -> Embedding:
    """The method of a name with its options, or a ready one.

    Raises:
        UnknownName: there is no such method.
        InvalidInput: an option is unknown or out of range, or a ready method was given options
            or is not registered.
    """
    options = dict(options or {})
    if isinstance(method, Embedding):
        name_of(method)
        if options:
            raise InvalidInput(
                f"options for a method that has its own: {', '.join(sorted(options))}",
                remedy="write them into the method, or give the method's name",
            )
        return method
    kind = EMBEDDINGS[method]
    known = [field.name for field in fields(kind)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InvalidInput(
            f"the embedding method {method!r} has no option {unknown[0]!r}",
            remedy=f"choose among {', '.join(known)}",
        )
    return kind.from_dict(options)


def name_of(method: Embedding) -> str:
    """The name that a method is registered under.

    Raises:
        InvalidInput: it is under none.
    """
    for name in EMBEDDINGS:
        if EMBEDDINGS[name] is type(method):
            return name
    raise InvalidInput(
        f"{type(method).__name__} is not a registered embedding method",
        why="results and checkpoints name the method",
        remedy="register the class: @EMBEDDINGS.register(name)",
    )
