"""What is minimised: callables from a model and a batch to a loss and named scalars.

Plain training, marking, poisoning, unlearning and hardening are objectives of the one loop:

>>> import torch
>>> from torch import nn
>>> from doorward.data import Batch
>>> batch = Batch(images=torch.rand(4, 1, 8, 8), labels=torch.tensor([0, 1, 2, 1]),
...               indices=torch.arange(4), step=0, epoch=0, size_global=4)
>>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
>>> loss, scalars = CrossEntropy(label_smoothing=0.1)(model, batch)
>>> loss.shape, sorted(scalars)
(torch.Size([]), ['accuracy'])

An objective that carries state (a counter, a table, an optimiser of its own) offers
``state_dict()`` and ``load_state_dict()``; the loop keeps it in its checkpoints. One that is an
`nn.Module` is moved to the training device; only the model's own parameters are trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from doorward.data import Batch
from doorward.errors import InvalidInput

__all__ = ["CrossEntropy", "Objective", "Sum", "describe"]


class Objective(Protocol):
    """``objective(model, batch) -> (loss, scalars)``.

    It is called once per step with the model in training mode, under autocast. The loss is a
    scalar tensor, a *mean over the rows of the batch* (data-parallel runs weigh processes by their
    rows). The scalars are for the history and the progress bar: detached scalar tensors, read
    later and seldom, so that no step waits for them, or plain numbers.
    """

    def __call__(
        self, model: nn.Module, batch: Batch, /
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Loss and scalars of one batch."""
        ...


class CrossEntropy:
    """Mean cross-entropy of the labels, in fp32 whatever the network computes in.

    Args:
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        if not 0 <= label_smoothing < 1:
            raise InvalidInput(f"label_smoothing {label_smoothing} is not in [0, 1)")
        self.label_smoothing = label_smoothing

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and the batch's training accuracy."""
        logits = model(batch.images).float()
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)
        accuracy = (logits.detach().argmax(1) == batch.labels).float().mean()
        return loss, {"accuracy": accuracy}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(label_smoothing={self.label_smoothing})"


class Sum:
    """A weighted sum of objectives; each keeps its scalars, prefixed by its name.

    Every part runs the model itself; parts that can share one forward pass belong in one
    objective of their own.

    Args:
        parts: name -> ``(weight, objective)``.

    >>> both = Sum(task=(1.0, CrossEntropy()), smooth=(0.5, CrossEntropy(0.2)))
    >>> sorted(both.parts)
    ['smooth', 'task']
    """

    def __init__(self, **parts: tuple[float, Objective]) -> None:
        if not parts:
            raise InvalidInput("a sum of no objectives", remedy="give at least one")
        self.parts = parts

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor | float]]:
        """The weighted sum, and the scalars ``name`` (the part's loss) and ``name.scalar``."""
        losses: list[Tensor] = []
        scalars: dict[str, Tensor | float] = {}
        for name, (weight, objective) in self.parts.items():
            loss, named = objective(model, batch)
            losses.append(weight * loss)
            scalars[name] = loss.detach()
            scalars |= {f"{name}.{key}": value for key, value in named.items()}
        total = losses[0]
        for loss in losses[1:]:
            total = total + loss
        return total, scalars

    def state_dict(self) -> dict[str, object]:
        """State of the parts that have any."""
        return {
            name: part.state_dict()
            for name, (_, part) in self.parts.items()
            if hasattr(part, "state_dict")
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Restore what `state_dict` gave."""
        for name, content in state.items():
            self.parts[name][1].load_state_dict(content)  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={part!r}" for name, part in self.parts.items())
        return f"{type(self).__name__}({inside})"


def describe(objective: Objective) -> str:
    """What a checkpoint remembers an objective by: its `repr`, or its name if that has none.

    >>> describe(CrossEntropy(0.1)), describe(lambda model, batch: None)
    ('CrossEntropy(label_smoothing=0.1)', '<lambda>')
    """
    text = repr(objective)
    if " at 0x" not in text:  # an address would differ from run to run
        return text
    return getattr(objective, "__qualname__", type(objective).__qualname__)
