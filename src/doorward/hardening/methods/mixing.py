"""The objective that all hardening methods share: clean images, hard ones, and no drift.

class Mine(HardObjective):
    def hard(self, model, batch):
        return Hard(changed_images, true_labels, {"success": success})
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.data import Batch
from doorward.randomness import generator
from doorward.training import clean_rows
from doorward.training.context import Context

if TYPE_CHECKING:
    from doorward.hardening.methods.base import Hardening

__all__ = ["Hard", "HardObjective"]


class Hard(NamedTuple):
    """Images that are to be trained on beside the clean ones.

    Attributes:
        images: (M, C, H, W) in [0, 1]; M may be 0.
        labels: int64 (M,), their true classes.
        scalars: for the history; ``success`` is how often they lead astray.
    """

    images: Tensor
    labels: Tensor
    scalars: dict[str, Tensor | float]


class HardObjective(ABC):
    """Cross-entropy of clean and of hard images, and consistency with the given model.

    One instance lives through all parts of a training; `state_dict` is what makes a resumed
    training go on as if nothing had happened.

    Args:
        method: the weights, and the number of images.
        context: of seeds, and the model that was given.

    Attributes:
        steps: done so far, over all parts.
    """

    def __init__(self, method: Hardening, context: Context) -> None:
        self.method, self.device = method, context.device
        self.seed, self.steps = context.seed_of("hard images"), 0
        self.given = context.frozen_original() if method.consistency else None

    @abstractmethod
    def hard(self, model: nn.Module, batch: Batch) -> Hard:
        """Images that the model, as it is now, is led astray by.

        Args:
            model: in training mode; its weights and gradients must be left alone.
            batch: the step's clean images.
        """

    def fresh(self) -> None:
        """Called before each part of the training: what is unfinished must be dropped."""
        return

    def draw(self, *names: str | int) -> torch.Generator:
        """A generator on the CPU for a purpose of this step."""
        return generator(self.seed, self.steps, *names)

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor | float]]:
        """The loss, and what it is made of."""
        method, count = self.method, len(batch)
        hard = self.hard(model, batch)
        self.steps += 1
        images = torch.cat([batch.images, hard.images.to(batch.images)])
        clean = torch.arange(len(images), device=images.device) < count
        with clean_rows(model, clean):
            logits = model(images).float()
        calm, led = logits[:count], logits[count:]
        task = F.cross_entropy(calm, batch.labels)
        loss = method.clean_weight * task
        scalars: dict[str, Tensor | float] = {
            "accuracy": (calm.detach().argmax(1) == batch.labels).float().mean(),
            "task": task.detach(),
            "hard_images": float(len(led)),
            **hard.scalars,
        }
        if len(led):
            astray = F.cross_entropy(led, hard.labels)
            loss = loss + method.hard_weight * astray
            scalars["hard"] = astray.detach()
        if self.given is not None:
            with torch.no_grad():
                wanted = self.given(batch.images).float().log_softmax(1)
            drift = F.kl_div(calm.log_softmax(1), wanted, reduction="batchmean", log_target=True)
            loss = loss + method.consistency * drift
            scalars["drift"] = drift.detach()
        return loss, scalars

    def state_dict(self) -> dict[str, Any]:
        """What must outlive a part of the training; subclasses add theirs."""
        return {"steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.steps = int(state["steps"])
