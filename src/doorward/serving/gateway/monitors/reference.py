"""What honest traffic looks like: shares of the classes, and features of images and answers.

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> images, scores = rng.random((50, 1, 4, 4)), rng.dirichlet([1, 1, 1], 50)
>>> reference = Reference.measured(images.astype(np.float32), scores.astype(np.float32))
>>> len(reference.shares), sorted(zip(FEATURES, reference.means))[0][0]
(3, 'brightness')
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.errors import BadFile, InvalidInput
from doorward.files import read_json
from doorward.records import STRICT, Record

__all__ = ["FEATURES", "Reference", "features_of", "reference_of"]

Floats = NDArray[np.float32]
Finite = Annotated[float, Field(allow_inf_nan=False)]

FEATURES = ("brightness", "contrast", "roughness", "confidence", "entropy")
"""Mean, standard deviation, mean step between neighbouring pixels; largest probability, entropy."""

_LEAST_SPREAD = 1e-3


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Reference(Record):
    """Averages over images like those that honest tenants ask about.

    Args:
        images: how many were measured.
        shares: of the classes that were answered; sum to 1.
        means: of `FEATURES`.
        deviations: standard deviations of `FEATURES` over single images.
    """

    images: Annotated[int, Field(ge=1)]
    shares: Annotated[tuple[Finite, ...], Field(min_length=1)]
    means: Annotated[tuple[Finite, ...], Field(min_length=5, max_length=5)]
    deviations: Annotated[tuple[Finite, ...], Field(min_length=5, max_length=5)]

    @classmethod
    def measured(cls, images: Floats, probabilities: Floats) -> Self:
        """Measure images ``(N, C, H, W)`` and a model's answers ``(N, K)`` to them."""
        features = features_of(images, probabilities)
        counts = np.bincount(probabilities.argmax(1), minlength=probabilities.shape[1])
        return cls(
            images=len(images),
            shares=tuple((counts / len(images)).tolist()),
            means=tuple(features.mean(0).tolist()),
            deviations=tuple(np.maximum(features.std(0), _LEAST_SPREAD).tolist()),
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what ``doorward gateway reference`` wrote.

        Raises:
            MissingData: there is no such file.
            BadFile: it is no reference.
        """
        content = read_json(path)
        try:
            return cls.from_dict(content if isinstance(content, dict) else {})
        except InvalidInput as error:
            raise BadFile(f"{path} is no reference", why=str(error)) from error


def features_of(images: Floats, probabilities: Floats) -> NDArray[np.float64]:
    """`FEATURES` of every image, ``(N, 5)``."""
    flat = images.reshape(len(images), -1)
    steps = [np.abs(np.diff(images, axis=axis)).mean((1, 2, 3)) for axis in (2, 3)
             if images.shape[axis] > 1]  # fmt: skip
    safe = np.clip(probabilities, 1e-12, 1)
    columns = [
        flat.mean(1),
        flat.std(1),
        np.mean(steps, axis=0) if steps else np.zeros(len(images)),
        probabilities.max(1),
        -(safe * np.log(safe)).sum(1),
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def reference_of(
    answer: Callable[[Floats], Floats], images: Floats, *, batch_size: int = 64
) -> Reference:
    """Measure what a graph (`Graph`) answers to images ``(N, C, H, W)`` in ``[0, 1]``.

    Raises:
        InvalidInput: there are no images.
    """
    if not len(images):
        raise InvalidInput("there are no images to measure")
    parts = range(0, len(images), batch_size)
    answers = [answer(images[start : start + batch_size]) for start in parts]
    return Reference.measured(images, np.concatenate(answers))
