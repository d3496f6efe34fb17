"""Asking a suspect about a tracing key's triggers.

>>> import torch
>>> from doorward.watermark.key import WatermarkKey
>>> key = WatermarkKey.new(n=20, classes=10, image_shape=(1, 16, 16))
>>> ask(key, lambda images: torch.ones(len(images), dtype=torch.int64)).tolist() == [1] * 20
True

The questions are those of a verification (`doorward.watermark.verifying`): in an order that nobody
foresees, among cover questions if wanted; what an endpoint refuses is asked again, alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from doorward.bundles import open_black_box
from doorward.data import ImageSource
from doorward.models import BlackBox
from doorward.randomness import Secret
from doorward.watermark.key import WatermarkKey
from doorward.watermark.tracing.code import NO_ANSWER
from doorward.watermark.verifying.interrogation import require_same_classes
from doorward.watermark.verifying.interview import hold
from doorward.watermark.verifying.plan import QueryPlan
from doorward.watermark.verifying.queries import Queries
from doorward.watermark.verifying.ruling import require_classes
from doorward.watermark.verifying.shown import Shown

__all__ = ["ask"]


def ask(
    key: WatermarkKey,
    suspect: Any,
    *,
    plan: QueryPlan | None = None,
    covers: ImageSource | None = None,
) -> Tensor:
    """A suspect's label for every trigger of a key.

    Args:
        key: the tracing key.
        suspect: as in `trace`.
        plan: what else is asked, and how fast; by default nothing else.
        covers: images of the suspect's task, for the plan's cover questions; by default
            look-alikes of the triggers.

    Returns:
        int64 ``(n,)``, in the key's order; `NO_ANSWER` where the suspect gave no label, or one
        that is none of the key's classes.

    Raises:
        ModelUnsuitable: the suspect has fewer classes than the key, or answers nonsense.
        InvalidInput: it takes images of another shape, or the covers do not fit.
        EndpointFailed: the endpoint does not answer (any more).
    """
    plan = plan or QueryPlan()
    box = open_black_box(suspect)
    _require_enough(box, key.classes)
    queries = Queries(plan, Shown.by(key), Secret.new(), covers if plan.cover_share else None)
    answers: list[int | None] = []
    hold(queries, box, answers)
    _require_enough(box, key.classes)  # some suspects show it only in their answers
    require_classes(answers, key.classes)
    given = [answers[place] for _, place in sorted(queries.places("trigger").items())]
    return torch.tensor(
        [NO_ANSWER if one is None or one >= key.classes else one for one in given],
        dtype=torch.int64,
    )


def _require_enough(box: BlackBox, classes: int) -> None:
    """A thief who adds a class for refusals does not escape by it."""
    if (box.num_classes or classes) < classes:
        require_same_classes(box, classes)
