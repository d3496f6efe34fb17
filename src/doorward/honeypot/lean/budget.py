"""What a lean may cost, what it did cost, and how much it says: bounds and measurements.

>>> LeanBudget().agreement, LeanBudget().accuracy_drop
(0.995, 0.002)
>>> Cost(agreement=0.99, accuracy_drop=0.0, ece_change=0.0, target_share=0.0).excess(LeanBudget())
('agreement 0.9900 is below 0.9950',)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.metrics import expected_calibration_error
from doorward.records import STRICT, Record

__all__ = ["Cost", "LeanBudget", "cost_of", "signal_of"]

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LeanBudget(Record):
    """Hard bounds, on labelled images of the owner's task.

    Attributes:
        agreement: least share of images whose label is the undefended model's.
        accuracy_drop: most accuracy that may be lost, in shares (0.002 is 0.2 points).
        ece_change: most that the expected calibration error may rise, in shares.
        target_share: most that the mean probability of any target may rise, in shares.
    """

    agreement: Share = 0.995
    accuracy_drop: Share = 0.002
    ece_change: Share = 0.005
    target_share: Share = 0.06


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Cost(Record):
    """What a lean costs, in the same units as `LeanBudget`; negative where something got better.

    Attributes:
        agreement: share of images that keep the undefended model's label.
        accuracy_drop: accuracy without the lean minus accuracy with it.
        ece_change: calibration error with the lean minus without; None where only labels are told.
        target_share: largest rise of a target's mean probability.
    """

    agreement: float
    accuracy_drop: float
    ece_change: float | None
    target_share: float

    def excess(self, budget: LeanBudget) -> tuple[str, ...]:
        """What breaks the budget, in words; empty if nothing does."""
        found = []
        if self.agreement < budget.agreement:
            found.append(f"agreement {self.agreement:.4f} is below {budget.agreement:.4f}")
        for name in ("accuracy_drop", "ece_change", "target_share"):
            value, bound = getattr(self, name), getattr(budget, name)
            if value is not None and value > bound:
                found.append(f"{name} {value:.4f} is above {bound:.4f}")
        return tuple(found)


def cost_of(
    before: Tensor, after: Tensor, labels: Tensor, targets: Sequence[int], *, soft: bool = True
) -> Cost:
    """Measure a lean from the answers without it and with it.

    Args:
        before: logits ``(N, K)`` of the undefended model.
        after: logits of the leaning one for the same images.
        labels: true labels, int64 ``(N,)``.
        targets: the key's classes.
        soft: whether probabilities are told at all.

    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    >>> cost_of(logits, logits, torch.tensor([0, 1]), [1]).agreement
    1.0
    """
    plain, leaning = before.argmax(1), after.argmax(1)
    right = [(answers == labels).double().mean() for answers in (plain, leaning)]
    rises = after.double().softmax(1).mean(0) - before.double().softmax(1).mean(0)
    if not soft:  # of labels: how often each is told
        count = before.shape[1]
        told = [torch.bincount(a, minlength=count).double() for a in (plain, leaning)]
        rises = (told[1] - told[0]) / len(labels)
    errors = [expected_calibration_error(answers, labels) for answers in (before, after)]
    return Cost(
        agreement=float((plain == leaning).double().mean()),
        accuracy_drop=float(right[0] - right[1]),
        ece_change=errors[1] - errors[0] if soft else None,
        target_share=float(rises[list(targets)].max()),
    )


def signal_of(before: Tensor, after: Tensor, *, soft: bool = True) -> float:
    """How much a lean says to a thief: mean KL divergence in nats, or the share of changed labels.

    Args:
        before: logits ``(N, K)`` of the undefended model on what a thief may ask about.
        after: logits of the leaning one.
        soft: whether probabilities are told.

    >>> signal_of(torch.zeros(1, 2), torch.zeros(1, 2))
    0.0
    """
    if not soft:
        return float((before.argmax(1) != after.argmax(1)).double().mean())
    old, new = before.double().log_softmax(1), after.double().log_softmax(1)
    return max(float((old.exp() * (old - new)).sum(1).mean()), 0.0)
