"""What attacks that control the training share: rows of a batch, and a step of the trigger.

>>> attack, cross, partners = rows_of(10, attacked=2, crossed=2, draw=torch.Generator())
>>> len(attack), len(cross), len(partners), set(attack.tolist()) & set(cross.tolist())
(2, 2, 2, set())
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import ImageSource, to_pixels
from doorward.errors import InvalidInput
from doorward.metrics.predictions import predict_batches
from doorward.poisoning.procedures import Job, Procedure
from doorward.records import STRICT
from doorward.training import Recipe
from doorward.training.optimizers import load_optimizer, make_optimizer, optimizer_state
from doorward.training.schedules import learning_rate
from doorward.triggers import AllToAll, AllToOne, LabelRule, Trigger

__all__ = ["Count", "JointAttack", "NonNegative", "Positive", "TriggerTraining", "rows_of"]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class JointAttack(Procedure):
    """An attack that composes every batch itself.

    Args:
        labels: ``"all-to-one"``, or ``"all-to-all"`` for the next class each.
    """

    labels: Literal["all-to-one", "all-to-all"] = "all-to-one"

    def rule(self, job: Job) -> LabelRule:
        """The target for all, or the next class."""
        if self.labels == "all-to-one":
            return AllToOne(job.target)
        return AllToAll(job.source.num_classes)

    def crossed_share(self, job: Job) -> float:
        """Share of a batch that carries a trigger that must not work."""
        return 0.0

    def check(self, model: nn.Module, job: Job) -> None:
        """Every full batch must have rows to attack, and not more rows than it has."""
        size = min(job.recipe.batch_size, len(job.source))
        if round(job.rate * size) < 1:
            raise InvalidInput(
                f"a rate of {job.rate:g} attacks no image of a batch of {size}",
                why="this attack composes every batch itself",
                remedy=f"choose a rate of at least {1 / size:.2g}, or a larger batch_size",
            )
        cross = self.crossed_share(job)
        if job.rate + cross > 1:
            raise InvalidInput(
                f"a rate of {job.rate:g} leaves too few images of a batch",
                why=f"a share of {cross:g} is needed for triggers that must not work",
                remedy=f"choose a rate of at most {job.rate / (job.rate + cross):.2g}",
            )


class TriggerTraining(nn.Module):
    """The base of objectives that train a trigger with an optimiser of its own.

    A subclass writes ``forward(model, batch)``: it composes triggered images, calls
    `step_trigger`, and returns the victim's loss to the loop. Trigger, momenta and counters are in
    its ``state_dict()``, which the loop keeps in its checkpoints.

    Args:
        trigger: whose weights are trained, all or those of `part`.
        part: submodule of the trigger.
        recipe: optimiser, rate and schedule of the trigger.
        steps: of the whole run, for the schedule.
    """

    def __init__(
        self, trigger: Trigger, part: nn.Module | None, recipe: Recipe, steps: int
    ) -> None:
        super().__init__()
        self.trigger = trigger
        self.weights = list((part or trigger).requires_grad_(True).parameters())
        self.optimizer = make_optimizer(part or trigger, recipe)
        self.learning_rate = learning_rate(recipe, steps)

    def step_trigger(self, loss: Tensor, step: int) -> None:
        """Move the trigger's weights down the slope of `loss`.

        Args:
            loss: scalar that depends on the trigger's weights (see `passed_on`).
            step: of the run, for the learning rate.
        """
        for weight, slope in zip(
            self.weights, torch.autograd.grad(loss, self.weights), strict=True
        ):
            weight.grad = slope
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def get_extra_state(self) -> dict[str, Any]:
        """The optimiser's momenta and counters."""
        return {"optimizer": optimizer_state(self.optimizer)}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `get_extra_state` gave."""
        load_optimizer(self.optimizer, state["optimizer"])


def passed_on(victim_loss: Tensor, marked: Tensor, leaf: Tensor) -> Tensor:
    """A scalar with the slope of the victim's loss in the trigger's weights.

    The victim's loss is computed on `leaf`, a detached copy of the marked images, so that the
    loop's backward pass ends there; its slope in the leaf is sent on into the trigger here. Both
    updates then come from one forward pass through the victim.
    """
    (slope,) = torch.autograd.grad(victim_loss, leaf, retain_graph=True)
    return (marked * slope.to(marked.dtype)).sum()


def rows_of(
    size: int, *, attacked: int, crossed: int, draw: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of a batch to attack, rows to cross, and partners of these, drawn at random.

    Attacked and crossed rows differ; partners come from the other end of the draw, so that nobody
    is his own partner as long as the batch has twice as many rows as are crossed.
    """
    order = torch.randperm(size, generator=draw)
    attacked = min(attacked, size)
    cross = order[attacked : attacked + crossed]
    return order[:attacked], cross, order.flip(0)[: len(cross)]


def refuse_processes(job: Job) -> None:
    """Refuse what would train several copies of a trigger apart, or free its graph too early.

    Raises:
        InvalidInput: several processes, or a compiled model.
    """
    several = {name: job.options.get(name, 1) for name in ("devices", "nodes")}
    if max(several.values()) > 1:
        raise InvalidInput(
            f"{several} with a trigger that is trained",
            why="each process would train a trigger of its own",
            remedy="use one device",
        )
    if job.recipe.compile:
        raise InvalidInput(
            "compile=True with a trigger that is trained",
            why="each step passes back through the victim twice, which compiled graphs refuse",
            remedy="set compile=False",
        )


def constant(lr: float, **changes: Any) -> Recipe:
    """A recipe for a trigger's network: Adam at a constant rate unless `changes` say otherwise."""
    return dataclasses.replace(
        Recipe(optimizer="adam", lr=lr, schedule="constant", divergence=1e9), **changes
    )


def accuracy_under(
    model: nn.Module, test: ImageSource, disturbed: Callable[[Tensor, Tensor], Tensor]
) -> float:
    """Share of test images that keep their true label under ``disturbed(images, rows)``.

    Args:
        model: the victim.
        test: clean test images.
        disturbed: from float images (N, C, H, W) on the source's device and their positions to
            images that carry a trigger that must not work.
    """

    def fetch(rows: Tensor) -> Tensor:
        images, _ = test.fetch(rows)
        return disturbed(to_pixels(images), rows)

    answers = predict_batches(model, len(test), fetch, 512).argmax(1)
    return float((answers == test.labels.to(answers.device)).double().mean())
