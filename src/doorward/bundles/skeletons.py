"""Models made from their card, before they get their weights.

>>> from doorward.bundles.card import ModelCard
>>> card = ModelCard(architecture="resnet8", classes=("a", "b"), input_shape=(3, 32, 32),
...     mean=(0, 0, 0), std=(1, 1, 1), weights_sha256="0" * 64, weights_bytes=8)
>>> zoo_skeleton(card).head.weight.is_meta
True

A card may come from a stranger: nothing as large as it asks for is allocated before the names and
shapes have been compared with the weights that are really there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from doorward.bundles.card import ModelCard
from doorward.bundles.weights import mismatches
from doorward.errors import BadFile, InvalidInput, UnknownName, UnsafeFile
from doorward.models import Classifier, load_factory, skeleton

__all__ = ["check_fit", "foreign_module", "zoo_skeleton"]

_AGAIN = "get the bundle again from its source"


def zoo_skeleton(card: ModelCard) -> Classifier:
    """The card's architecture with parameters that have shapes but no memory ("meta").

    Raises:
        UnknownName: the architecture is not in the zoo.
        BadFile: it cannot be made with the card's options or input shape.
    """
    architecture = str(card.architecture)
    try:
        return skeleton(
            architecture,
            classes=card.classes,
            input_shape=card.input_shape,
            mean=card.mean,
            std=card.std,
            **card.options,
        )
    except UnknownName:
        raise
    except (InvalidInput, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise BadFile(
            f"{architecture} cannot be made as the card says",
            why=str(error)[:300],
            remedy=_AGAIN,
        ) from error


def foreign_module(card: ModelCard, folder: Path, *, trusted: bool) -> nn.Module:
    """The module that the card's factory makes.

    Raises:
        UnsafeFile: `trusted` is false, so nothing was imported.
        InvalidInput: the factory does not exist, or makes no module.
    """
    if not trusted:
        raise UnsafeFile(
            f"{folder} holds a foreign module made by {card.factory}",
            why="to load it, that package must be imported, which runs its code",
            remedy="if you trust it, allow it: trust_factory=True (--trust-factory)",
        )
    return load_factory(str(card.factory), **card.options)


def check_fit(
    expected: Mapping[str, Tensor], found: Mapping[str, tuple[int, ...]], what: str
) -> None:
    """Compare a model's tensors with the shapes on disk.

    Raises:
        BadFile: names or shapes differ; `what` says of whom, and all differences are listed.
    """
    differences = mismatches({name: tuple(value.shape) for name, value in expected.items()}, found)
    if differences:
        raise BadFile(what, why="; ".join(differences), remedy=_AGAIN)
