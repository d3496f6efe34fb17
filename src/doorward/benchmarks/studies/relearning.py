"""How fast a trigger comes (back) into a model, as several studies ask it.

    few = handful(cell, train, backdoor)
    curve = relearnt(cell, model, few, backdoor, test)       # the model is changed
    first_half(curve)

After the retuning attack of Min et al. (2024, "Uncovering, Explaining, and Mitigating the
Superficial Safety of Backdoor Defense"): fine-tuning on ``cell.options["tuning"]["images"]`` clean
images, ``cell.options["poisons"]`` of which carry trigger and label.
"""

from __future__ import annotations

from torch import nn

from doorward.benchmarks.study import Cell
from doorward.data import ImageData
from doorward.metrics import attack_success
from doorward.poisoning import PoisonedData, poison
from doorward.randomness import derive_seed
from doorward.training import Recipe, fit
from doorward.triggers import Backdoor, CleanLabel

__all__ = ["first_half", "handful", "relearnt"]


def handful(cell: Cell, train: ImageData, backdoor: Backdoor) -> PoisonedData:
    """A few clean images, of which the cell's count carries trigger and label."""
    count, seed = cell.options["tuning"]["images"], derive_seed(cell.seed, "retuning")
    few = train.sample(count, seed=seed)
    candidates = int(backdoor.rule.poisonable(few.labels).sum())
    base = candidates if isinstance(backdoor.rule, CleanLabel) else len(few)
    return poison(few, backdoor, rate=cell.options["poisons"] / base, seed=seed)


def relearnt(
    cell: Cell, model: nn.Module, few: PoisonedData, backdoor: Backdoor, test: ImageData
) -> list[float]:
    """Attack success before and after every epoch of tuning; the model is changed."""
    numbers = {k: v for k, v in cell.options["tuning"].items() if k != "images"}
    recipe = Recipe(schedule="constant", seed=derive_seed(cell.seed, "retune"), **numbers)
    curve = [attack_success(model, test, backdoor)]
    fit(
        model,
        None,
        few,
        recipe,
        on_epoch=lambda entry: curve.append(attack_success(model, test, backdoor)),
    )
    return curve


def first_half(curve: list[float]) -> int | None:
    """First epoch at which half of the attacks succeed.

    >>> first_half([0.1, 0.4, 0.7]), first_half([0.1])
    (2, None)
    """
    return next((epoch for epoch, success in enumerate(curve) if success > 0.5), None)
