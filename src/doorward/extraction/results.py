"""What a theft leaves behind on paper: how much it asked, and how close it came.

>>> sorted(StealResult.__dataclass_fields__)[:4]
['accuracy', 'agreement', 'answers', 'budget']
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.records import STRICT, Record
from doorward.training import FitResult, Recipe

__all__ = ["StealResult"]

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StealResult(Record):
    """A theft.

    Attributes:
        method: name of the attack, or its class if it is not registered.
        parameters: the attack's own.
        victim: what the victim says of itself.
        answers: ``"soft"``, ``"label"``, ``"top-5"``, ``"rounded-2"``, ...
        pool: name of the pool.
        budget: images that might be sent.
        queries: images that were sent, over all resumed runs.
        transfer_images: images that the substitute was trained on in the end.
        agreement: share of the validation images that both put into the same class.
        accuracy: of the substitute on them, by their labels.
        victim_accuracy: of the victim.
        validation_images: how many; questions about them are not part of the theft, and are not
            counted in `queries`.
        seed: of the attack.
        seconds: wall-clock time of this call, without the validation.
        victim_seconds: of these, waiting for the victim.
        recipe: how the substitute was trained.
        fit: its last training.
    """

    method: str
    parameters: dict[str, Any]
    victim: dict[str, Any]
    answers: str
    pool: str
    budget: int
    queries: int
    transfer_images: int
    agreement: Share | None
    accuracy: Share | None
    victim_accuracy: Share | None
    validation_images: int
    seed: int
    seconds: float
    victim_seconds: float
    recipe: Recipe
    fit: FitResult
